"""PostgreSQL for the session, a database of its own for each test."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from world.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def postgres(tmp_path_factory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("postgres")) as started:
        yield started


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """Give the connection string of an empty database, the superuser's."""
    name = f"test_{secrets.token_hex(4)}"
    yield postgres.create_database(name)
    postgres.drop_database(name)
