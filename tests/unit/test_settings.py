"""The environment as the operator reads it, and what it says of a wrong one."""

from __future__ import annotations

import os
from ipaddress import ip_network
from typing import get_type_hints

import pytest

from hostwatch.settings import Settings, SettingsError, SshSettings, port_ranges


@pytest.fixture
def environment(monkeypatch):
    """Give a setter of variables over those that are required, and nothing else."""
    for name in [name for name in os.environ if name.startswith("HOSTWATCH_")]:
        monkeypatch.delenv(name)

    def set_all(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(f"HOSTWATCH_{name}", value)

    set_all(POSTGRES_DSN="host=db password=s3cret", SPOOL_DIR="off")
    return set_all


def complaints():
    with pytest.raises(SettingsError) as wrong:
        Settings.read()
    return str(wrong.value).split("\n")


def test_what_is_not_set_has_its_default(environment):
    settings = Settings.read()
    assert settings.kubernetes.namespaces == ()
    assert not settings.kubernetes.require_organization_label
    assert settings.kubernetes.status_writes_per_second == 20
    assert settings.ssh.allowed_destinations == ()
    assert settings.ssh.allowed_ports == "1-65535"
    assert settings.ssh.cluster_cidrs == ()
    assert not settings.ssh.allow_trust_on_first_use
    assert settings.postgres.postgres_maintenance_dsn is None
    assert settings.postgres.retention_days == 30
    assert settings.nats.nats_url == ("nats://localhost:4222",)
    assert settings.telemetry.http_port == 8080
    assert settings.telemetry.server_metrics
    assert (settings.telemetry.log_format, settings.telemetry.log_level) == (
        "json",
        "info",
    )
    assert settings.replica.instance == "hostwatch"


def test_lists_are_comma_separated(environment):
    environment(
        NAMESPACES="acme, globex,",
        ALLOWED_DESTINATIONS="10.0.0.0/8, 2001:db8::/32",
        CLUSTER_CIDRS="",
        NATS_URL="nats://a:4222,nats://b:4222",
    )
    settings = Settings.read()
    assert settings.kubernetes.namespaces == ("acme", "globex")
    assert settings.ssh.allowed_destinations == (
        ip_network("10.0.0.0/8"),
        ip_network("2001:db8::/32"),
    )
    assert settings.ssh.cluster_cidrs == ()
    assert settings.nats.nats_url == ("nats://a:4222", "nats://b:4222")


def test_all_that_is_wrong_is_told_at_once_with_a_line_each(environment):
    environment(
        HTTP_PORT="65536",
        ALLOWED_PORTS="22,ssh",
        CLUSTER_CIDRS="10.96.0.0/12,10.0.0.1/8",
        LOG_FORMAT="xml",
        RETENTION_DAYS="0",
    )
    assert complaints() == [
        (
            "HOSTWATCH_ALLOWED_PORTS: entry 2 must be a port or a range of ports, for "
            "example 2200-2299"
        ),
        (
            "HOSTWATCH_CLUSTER_CIDRS: entry 2 must be a CIDR without host bits, for "
            "example 10.0.0.0/8"
        ),
        "HOSTWATCH_RETENTION_DAYS: Input should be greater than or equal to 1",
        "HOSTWATCH_HTTP_PORT: Input should be less than or equal to 65535",
        "HOSTWATCH_LOG_FORMAT: Input should be 'json' or 'console'",
    ]


def test_what_must_be_set_is_named(environment, monkeypatch):
    monkeypatch.delenv("HOSTWATCH_POSTGRES_DSN")
    monkeypatch.delenv("HOSTWATCH_SPOOL_DIR")
    assert complaints() == [
        "HOSTWATCH_POSTGRES_DSN: must be set",
        "HOSTWATCH_SPOOL_DIR: must be set",
    ]


def test_no_value_is_in_a_complaint_whichever_variable_it_stands_in(environment):
    concerns = get_type_hints(Settings).values()
    names = [name.upper() for concern in concerns for name in concern.model_fields]
    environment(**dict.fromkeys(names, "S3cret/pw"))
    found = complaints()
    assert len(found) > 5
    assert "S3cret" not in "".join(found)


def test_nothing_secret_shows_in_the_settings(environment):
    assert "s3cret" not in repr(Settings.read())


def test_one_concern_is_read_alone(environment):
    environment(HTTP_PORT="none", ALLOWED_PORTS="22")
    assert SshSettings.read().allowed_ports == "22"


def test_ports_are_numbers_and_ranges():
    assert port_ranges("22, 2200 - 2202,65535") == (
        range(22, 23),
        range(2200, 2203),
        range(65535, 65536),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh",
        "22,",
        "0",
        "65536",
        "30-20",
        "1-2-3",
        "-22",
        "22;23",
        "٢٢",
        "9" * 5000,
    ],
)
def test_ports_that_cannot_be_read_name_the_variable(environment, text):
    with pytest.raises(ValueError, match="must be a port or a range of ports"):
        port_ranges(text)
    environment(ALLOWED_PORTS=text)
    (complaint,) = complaints()
    assert complaint.startswith("HOSTWATCH_ALLOWED_PORTS: entry ")
