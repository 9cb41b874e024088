"""Settings of the commands on the database, before any database is asked."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from hostwatch.cli.main import app
from hostwatch.settings import PostgresSettings, SettingsError


@pytest.mark.parametrize("command", ["migrate", "prune"])
def test_a_missing_setting_is_named(command, monkeypatch):
    monkeypatch.delenv("HOSTWATCH_POSTGRES_DSN", raising=False)
    done = CliRunner().invoke(app, [command])

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "HOSTWATCH_POSTGRES_DSN: must be set\n"


def test_every_wrong_variable_has_its_line_without_its_value(monkeypatch):
    monkeypatch.delenv("HOSTWATCH_POSTGRES_DSN", raising=False)
    monkeypatch.setenv("HOSTWATCH_RETENTION_DAYS", "s3cret")

    with pytest.raises(SettingsError) as wrong:
        PostgresSettings.read()

    first, second = str(wrong.value).split("\n")
    assert first == "HOSTWATCH_POSTGRES_DSN: must be set"
    assert second.startswith("HOSTWATCH_RETENTION_DAYS: ")
    assert "s3cret" not in str(wrong.value)


def test_the_other_settings_do_not_matter(monkeypatch):
    monkeypatch.setenv("HOSTWATCH_POSTGRES_DSN", "host=db")
    monkeypatch.setenv("HOSTWATCH_HTTP_PORT", "none")

    assert PostgresSettings.read().retention_days == 30
