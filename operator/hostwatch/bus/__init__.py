"""Live updates and alerts on NATS: the only importer of nats.

Subjects, bodies, headers and the publishers. What does not belong here: any decision
about who may listen, which the subject alone carries.
"""
