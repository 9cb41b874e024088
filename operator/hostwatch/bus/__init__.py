"""Live updates on NATS: the only importer of nats.

Subjects, bodies, headers and the publisher. What does not belong here: any decision
about who may listen, which the subject alone carries.
"""
