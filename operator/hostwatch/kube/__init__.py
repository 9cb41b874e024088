"""The Kubernetes API beside kopf: the only importer of kubernetes.

Status writes, Secrets, the sweep against missed deletions, and the translation of a
resource's body into a `Server`. What does not belong here: watching, which is kopf's,
and any decision about a server.
"""
