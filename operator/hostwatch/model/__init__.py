"""The nouns that every layer speaks of: servers, credentials, metrics, reasons.

Frozen values without behaviour beyond their own consistency. What does not belong
here: decisions (``health``), parsing (``probes``), and anything that reads a clock,
a file or the environment.
"""
