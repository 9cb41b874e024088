"""Pure decisions about one server: thresholds, reasons, conditions.

What does not belong here: time, chance, and anything that waits; they come in as
arguments.
"""
