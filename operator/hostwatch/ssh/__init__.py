"""Connections to servers: the only importer of asyncssh.

Destinations, host keys, handshakes, the long-lived shell and its framing, and the
translation of every asyncssh error into a `CollectionError`. What does not belong
here: when to collect, retries, and what a document means.
"""
