"""Watch Linux servers over plain SSH from Kubernetes.

The layers, top to bottom; each may import those below it, siblings never each other
(``pyproject.toml`` holds the contracts, CI checks them):

``__main__`` and ``cli``
    One module per command; parse arguments, call.
``handlers``
    kopf decorators: translate an event, call.
``app``
    The composition root: builds everything from the settings, opens it in order.
``monitor`` ``ssh`` ``store`` ``bus`` ``notify`` ``telemetry`` ``kube``
    What happens to a server, and the one importer of each vendor library.
``settings``
    The environment, read once.
``health`` ``probes``
    Pure decisions: thresholds, conditions, parsing of what a server printed.
``model``
    Nouns. Imports nothing of ours.
"""
