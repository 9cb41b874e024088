"""What happens to one server: when it is due, collected, tried again, and forced.

Speaks to the world through the protocols in ``ports``. What does not belong here: any
vendor library, what a server prints (``probes``), and what a number means
(``health``).
"""
