"""A NATS server with JetStream for the session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from world.nats import Nats

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def nats(tmp_path_factory) -> Iterator[Nats]:
    with Nats(tmp_path_factory.mktemp("nats")) as started:
        yield started
