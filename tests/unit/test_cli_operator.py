"""How ``hostwatch operator`` ends when no waiting would help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from hostwatch.app import App, InformerEndedError
from hostwatch.cli.main import app
from hostwatch.monitor.sweep import WatchStalledError
from hostwatch.telemetry import logging

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETTINGS = {
    "HOSTWATCH_POSTGRES_DSN": "host=127.0.0.1",
    "HOSTWATCH_SPOOL_DIR": "off",
    "HOSTWATCH_HTTP_PORT": "0",
}


class Forbidding(BaseHTTPRequestHandler):
    """Answers as an API server that grants nothing."""

    def do_GET(self) -> None:
        message = f'forbidden: User "system:anonymous" cannot get path "{self.path}"'
        body = json.dumps({"kind": "Status", "message": message, "code": 403}).encode()
        self.send_response(403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def forbidding(tmp_path: Path) -> Iterator[Path]:
    """Give a kubeconfig for an API server that grants nothing."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Forbidding) as server:
        thread = threading.Thread(target=server.serve_forever, name="api")
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        config = {
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": url}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [
                {"name": "test", "context": {"cluster": "test", "user": "test"}}
            ],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(config))
        yield path
        server.shutdown()
        thread.join()


def test_an_api_server_that_grants_nothing_is_told_in_one_line(forbidding):
    done = subprocess.run(
        [sys.executable, "-m", "hostwatch", "operator"],
        env={**os.environ, **SETTINGS, "KUBECONFIG": str(forbidding)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 4
    assert done.stderr == (
        "the operator may not read what it needs of the cluster: grant its "
        "ServiceAccount the rights that the README lists (the API server says: 403: "
        'forbidden: User "system:anonymous" cannot get path '
        '"/apis/hostwatch.dev/v1alpha1")\n'
    )


@pytest.mark.parametrize(
    "error",
    [
        InformerEndedError("the watch of the resources failed"),
        WatchStalledError("3 servers exist that the watch does not tell of"),
    ],
)
def test_a_watch_that_broke_ends_it_in_one_line(monkeypatch, error):
    async def run(self, informer):
        raise error

    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(App, "run", run)
    monkeypatch.setattr(logging, "configure", lambda settings: None)
    done = CliRunner().invoke(app, ["operator"])

    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"{error}: start the operator again\n"
