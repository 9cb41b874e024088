from __future__ import annotations

import psycopg
import pytest

from hostwatch.store.errors import (
    BadRowsError,
    DatabaseAwayError,
    DatabaseBusyError,
    DatabaseRefusedError,
    SchemaError,
    SchemaTooNewError,
    StoreError,
    translate,
    translate_connect,
)

SETTING = "HOSTWATCH_POSTGRES_DSN"
SECRET = "value-of-a-row"
BY_SQLSTATE = sorted(
    (
        error
        for error in vars(psycopg.errors).values()
        if isinstance(error, type)
        and issubclass(error, psycopg.Error)
        and error.sqlstate
    ),
    key=lambda error: str(error.sqlstate),
)

KINDS = {
    "22": BadRowsError,
    "23": BadRowsError,
    "3F": SchemaError,
    "42": SchemaError,
    "54": BadRowsError,
}
SINGLE = {"42501": DatabaseRefusedError, "55P03": DatabaseBusyError}


def test_every_state_that_psycopg_knows_is_told_apart():
    assert len(BY_SQLSTATE) > 200
    for error in BY_SQLSTATE:
        state = str(error.sqlstate)
        told = translate(error(SECRET), SETTING)
        kind = SINGLE.get(state) or KINDS.get(state[:2], DatabaseAwayError)
        assert isinstance(told, kind), state
        assert told.sqlstate == state
        assert state in str(told)
        assert SECRET not in str(told)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.OperationalError(SECRET), DatabaseAwayError),
        (psycopg.InterfaceError(SECRET), DatabaseAwayError),
        (psycopg.InternalError(SECRET), DatabaseAwayError),
        (psycopg.DataError(SECRET), BadRowsError),
        (psycopg.ProgrammingError(SECRET), BadRowsError),
        (psycopg.NotSupportedError(SECRET), BadRowsError),
        (UnicodeEncodeError("utf-8", SECRET, 0, 1, "surrogate"), BadRowsError),
        (OverflowError(SECRET), BadRowsError),
    ],
)
def test_what_has_no_state_is_told_apart_by_its_class(error, kind):
    told = translate(error, SETTING)
    assert type(told) is kind
    assert SECRET not in str(told)


@pytest.mark.parametrize(
    "text",
    [
        'FATAL:  password authentication failed for user "hostwatch"',
        "fe_sendauth: no password supplied",
        'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "a", database "b"',
        'FATAL:  database "hostwatch" does not exist',
        'FATAL:  role "hostwatch" does not exist',
        'FATAL:  permission denied for database "hostwatch"',
        'FATAL:  role "hostwatch" is not permitted to log in',
        "FATAL:  no such user",
    ],
)
def test_a_login_that_waiting_does_not_mend_is_refused(text):
    told = translate_connect(psycopg.OperationalError(text), SETTING)
    assert isinstance(told, DatabaseRefusedError)
    assert str(told).startswith(f"{SETTING}: the database refuses the login")


@pytest.mark.parametrize(
    "text",
    [
        "connection refused",
        "FATAL:  the database system is starting up",
        "FATAL:  sorry, too many clients already",
        "connection timeout expired",
        "failed to resolve host 'db'",
    ],
)
def test_a_login_that_may_work_later_is_not_refused(text):
    told = translate_connect(psycopg.OperationalError(text), SETTING)
    assert type(told) is DatabaseAwayError


def test_a_schema_too_new_says_what_to_do():
    assert str(SchemaTooNewError(found=7, known=3)) == (
        "the database has schema 7, this version knows up to 3: "
        "run a newer version of hostwatch"
    )


def test_all_errors_are_one_family():
    for kind in (DatabaseAwayError, DatabaseRefusedError, SchemaError, BadRowsError):
        assert issubclass(kind, StoreError)
