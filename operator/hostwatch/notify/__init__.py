"""Alerts are kept and told: what happens to an alert once it was raised.

Bottom up: ``ports`` and ``meter`` (what is needed from others), ``memory`` (what is
known, and what of it must still be written), ``lanes`` and ``outlet`` (one sink, told
in order, as often as it takes), ``relay`` (file, database and sinks in the order that
forgets nothing).

What does not belong here: deciding whether something is an alert, and how one sink,
file or database works.
"""
