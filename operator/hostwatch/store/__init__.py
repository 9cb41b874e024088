"""The record in PostgreSQL: the only importer of psycopg.

Bottom up: ``errors`` (what psycopg raised, in our words), ``link`` (one connection),
``batches`` (queue, retry, halving), ``samples`` ``roster`` ``pins`` ``alerts`` (what
is written), ``alert_file`` (the last of it, beside the database), ``schema``
``partitions`` ``upkeep`` (what it is written into), ``store`` (all of it, opened and
closed in order), ``commands`` (one-off runs for the command line).

What does not belong here: deciding what is stored, and any rule about health.
"""
