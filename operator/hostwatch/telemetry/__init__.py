"""How the operator speaks of itself: the only importer of prometheus_client.

Metrics, the summary line, logging, and the three HTTP endpoints. What does not belong
here: the meaning of a metric of a server.
"""
