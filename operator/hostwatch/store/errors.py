"""What can go wrong with the database, named by what must happen next.

psycopg's own messages stay behind this edge: they can quote values of a row, which a
server printed, and parts of a connection string. Ours say a SQLSTATE instead.
"""

from __future__ import annotations

import re

import psycopg


class StoreError(Exception):
    """The database did not do what it was asked; ``sqlstate`` where it said why.

    ``dropped`` names the partitions that a prune had dropped when it failed.
    """

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(f"{message} (SQLSTATE {sqlstate})" if sqlstate else message)
        self.sqlstate = sqlstate
        self.dropped: tuple[str, ...] = ()


class DatabaseAwayError(StoreError):
    """Nobody answers, or not now: try again later."""


class DatabaseBusyError(DatabaseAwayError):
    """A lock was not given in time."""

    def __init__(self, message: str) -> None:
        super().__init__(message, sqlstate="55P03")


class DatabaseRefusedError(StoreError):
    """The login or a privilege is refused: mend ``setting``, do not retry."""

    def __init__(
        self, setting: str, message: str, *, sqlstate: str | None = None
    ) -> None:
        super().__init__(f"{setting}: {message}", sqlstate=sqlstate)
        self.setting = setting


class SchemaError(StoreError):
    """The tables are not those that this version made or knows."""


class SchemaTooNewError(SchemaError):
    """A newer version migrated this database: run that one or a later one."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(
            f"the database has schema {found}, this version knows up to {known}: "
            "run a newer version of hostwatch"
        )
        self.found = found
        self.known = known


class BadRowsError(StoreError):
    """At least one row of the batch cannot be stored, now or later."""


class NoPartitionError(BadRowsError):
    """A row's day has no partition."""


_REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry"
    r'|(role|database) ".*" does not exist|permission denied for database'
    r"|not permitted to log in|no such (user|database)"
)
_NOT_NOW = re.compile(
    r"starting up|shutting down|recovery|accepting connections|too many"
    r"|connection slots|server closed|could not (send|receive)|timeout|SSL"
)


_UNSENDABLE = (
    psycopg.DataError,
    psycopg.ProgrammingError,
    psycopg.NotSupportedError,
)


def translate_connect(error: psycopg.Error, setting: str) -> StoreError:
    """Tell a refused login from an absent server.

    libpq keeps no SQLSTATE of a failed login, so its text decides. Where the server
    speaks another language, a password that was asked for in vain does.
    """
    if isinstance(error, psycopg.ProgrammingError):
        return DatabaseRefusedError(setting, "is not a libpq connection string")
    text = str(error)
    asked = error.pgconn is not None and (
        error.pgconn.needs_password or error.pgconn.used_password
    )
    if _REFUSED.search(text) or (asked and not _NOT_NOW.search(text)):
        return DatabaseRefusedError(
            setting,
            "the database refuses the login: check user, password, database name "
            "and pg_hba.conf",
        )
    return DatabaseAwayError("the database does not answer")


def translate(error: Exception, setting: str) -> StoreError:
    """Say what an error of a statement means for the caller, by its SQLSTATE.

    The classes are those of PostgreSQL's appendix A: 22 data, 23 constraints, 54
    limits, 3F and 42 names, syntax and privileges. The rest may pass.
    """
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    if state is None:
        return _translate_own(error)
    if _has_no_partition(error):
        told: StoreError = NoPartitionError("a day has no partition", sqlstate=state)
    elif state[:2] in ("22", "23", "54"):
        told = BadRowsError("a row is refused", sqlstate=state)
    elif state == "42501":
        told = DatabaseRefusedError(
            setting, "the role lacks a privilege", sqlstate=state
        )
    elif state[:2] in ("3F", "42"):
        told = SchemaError("the schema is not as expected", sqlstate=state)
    elif state == "55P03":
        told = DatabaseBusyError("a lock was not given in time")
    else:
        told = DatabaseAwayError("the database does not do it now", sqlstate=state)
    return told


def _has_no_partition(error: Exception) -> bool:
    """Recognize the one check violation that no constraint stands for."""
    return (
        isinstance(error, psycopg.errors.CheckViolation)
        and error.diag.constraint_name is None
    )


def _translate_own(error: Exception) -> StoreError:
    """Judge what Python and psycopg raise by themselves, before or after the server.

    Values that cannot be sent, or a connection that is no more.
    """
    if isinstance(error, psycopg.Error) and not isinstance(error, _UNSENDABLE):
        return DatabaseAwayError("the connection is lost")
    return BadRowsError("a row cannot be sent")
