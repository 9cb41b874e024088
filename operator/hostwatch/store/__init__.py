"""The record in PostgreSQL: the only importer of psycopg.

What does not belong here: deciding what is stored, and any rule about health.
"""
