from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hostwatch.model.reading import CpuUsage
from hostwatch.model.reason import Reason
from hostwatch.model.sample import Health, Metrics, Sample
from hostwatch.model.server import Organization, ServerId, ServerKey
from hostwatch.settings import TelemetrySettings
from hostwatch.telemetry.metrics import Metrics as OperatorMetrics
from hostwatch.telemetry.telemetry import Telemetry

GOLDEN = Path(__file__).parents[1] / "fixtures" / "metrics.txt"
OPENMETRICS = (
    "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
)
NOON = datetime(2026, 11, 23, 12, 0, 30, tzinfo=UTC)
FULL = Metrics(
    cpu=CpuUsage(total=12.5, user=8.0, system=3.0, iowait=1.5, steal=0.0),
    memory_used=2_000,
    memory_total=8_000,
    disk_used=70,
    disk_available=30,
    disk_total=105,
    disk_mount="/var",
    network_receive_bytes=1_000,
    network_transmit_bytes=2_000,
    load=(0.1, 0.2, 0.3),
    uptime_seconds=86_400,
    boot_time=datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC),
)


def _server(name: str) -> ServerKey:
    return ServerKey(
        id=ServerId(f"uid-of-{name}"),
        namespace="acme-prod",
        name=name,
        organization=Organization("acme"),
    )


def _sample(
    name: str,
    *,
    status: Health = Health.HEALTHY,
    reason: Reason | None = None,
    metrics: Metrics = FULL,
) -> Sample:
    return Sample(
        server=_server(name),
        collected_at=NOON,
        status=status,
        reason=reason,
        metrics=metrics,
    )


def _failed(name: str, reason: Reason) -> Sample:
    return _sample(name, status=Health.ERROR, reason=reason, metrics=Metrics())


def _telemetry(*, server_metrics: bool = True) -> Telemetry:
    settings = TelemetrySettings(server_metrics=server_metrics)
    return Telemetry(settings, version="1.2.3")


def _page(metrics: OperatorMetrics) -> str:
    """Return our own series; what the library says of the process varies."""
    page = metrics.render()[0].decode()
    ours = re.compile(r"(# (HELP|TYPE) )?hostwatch_")
    return "".join(line for line in page.splitlines(keepends=True) if ours.match(line))


def _value(metrics: OperatorMetrics, series: str) -> float | None:
    for line in _page(metrics).splitlines():
        name, _, value = line.rpartition(" ")
        if name == series:
            return float(value)
    return None


def _eventful() -> OperatorMetrics:
    """Return metrics after at least one event of each kind."""
    telemetry = _telemetry()
    telemetry.watching(3, 1)
    telemetry.collected(_sample("web-1"), duration=0.04, lateness=0.002)
    telemetry.collected(
        _sample("web-2", status=Health.CRITICAL, metrics=Metrics(load=(9.0, 8.0, 7.0))),
        duration=1.5,
        lateness=0.3,
    )
    telemetry.collected(
        _failed("web-3", Reason.CONNECTION_REFUSED), duration=90, lateness=40
    )
    telemetry.gave_up(_server("web-1"), "the database is away")
    telemetry.skipped(_server("web-1"))
    metrics = telemetry.metrics
    metrics.process.loop_lagged(0.003, 7)
    metrics.store.written(50, 0.02)
    metrics.store.dropped(2, "too_old")
    metrics.store.queued(7)
    metrics.store.away(False)  # noqa: FBT003 - the protocol's way
    metrics.store.maintained(succeeded=False)
    metrics.store.pruned(["p20261001", "p20261002"])
    metrics.bus.connected(up=True)
    metrics.bus.published(5)
    metrics.bus.dropped(3, "disconnected")
    metrics.bus.failed("login")
    metrics.bus.alert_failed("jetstream")
    metrics.lease.leading(True)  # noqa: FBT003 - the protocol's way
    metrics.lease.renewed(0.02)
    metrics.lease.failed("away")
    metrics.lease.transitions(3)
    metrics.kube.status_written("change", "written")
    metrics.kube.status_waiting(4)
    metrics.kube.secrets_cached(6)
    metrics.kube.api_failed(409)
    metrics.kube.api_failed(None)
    metrics.notify.delivered("nats")
    metrics.notify.failed("events")
    metrics.notify.given_up("events")
    metrics.notify.waiting(2)
    metrics.notify.file_failed()
    return metrics


def test_the_page_is_the_golden_one():
    assert _page(_eventful()) == GOLDEN.read_text()


def test_each_family_has_a_help_and_a_type():
    page = _page(_eventful())
    helps = re.findall(r"^# HELP (\S+) (.+)$", page, re.MULTILINE)
    types = re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE)

    assert [name for name, _ in helps] == [name for name, _ in types]
    assert all(text.endswith(".") for _, text in helps)


def test_names_keep_the_conventions_of_prometheus():
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", _page(_eventful()), re.MULTILINE))

    assert {
        name for name in types if not re.fullmatch(r"hostwatch_[a-z0-9_]+", name)
    } == (set())
    for name, kind in types.items():
        assert name.endswith("_total") == (kind == "counter"), name
        if kind == "histogram":
            assert name.endswith("_seconds"), name
        assert not re.search(r"_(ms|milliseconds|percent|kb|mb|gauge|count)$", name)


def test_there_are_at_most_twelve_series_per_server():
    telemetry = _telemetry()
    telemetry.collected(_sample("web-1"), duration=1, lateness=0)

    series = [line for line in _page(telemetry.metrics).splitlines() if "web-1" in line]

    assert len(series) == 12


def test_what_was_not_measured_is_absent():
    telemetry = _telemetry()
    telemetry.collected(_failed("web-1", Reason.DNS_FAILED), duration=1, lateness=0)

    names = [
        line.partition("{")[0]
        for line in _page(telemetry.metrics).splitlines()
        if "web-1" in line
    ]

    assert names == [
        "hostwatch_server_up",
        "hostwatch_server_health",
        "hostwatch_server_last_collection_timestamp_seconds",
    ]


def test_a_measured_zero_is_shown():
    telemetry = _telemetry()
    idle = CpuUsage(total=0.0, user=0.0, system=0.0, iowait=0.0, steal=0.0)
    telemetry.collected(
        _sample("web-1", metrics=Metrics(cpu=idle, load=(0.0, 0.0, 0.0))),
        duration=1,
        lateness=0,
    )
    labels = '{name="web-1",namespace="acme-prod",organization="acme"}'

    assert _value(telemetry.metrics, f"hostwatch_server_cpu_usage_ratio{labels}") == 0
    assert _value(telemetry.metrics, f"hostwatch_server_load1{labels}") == 0


def test_a_server_that_leaves_takes_its_series_along():
    telemetry = _telemetry()
    telemetry.collected(_sample("web-1"), duration=1, lateness=0)
    telemetry.collected(_sample("web-2"), duration=1, lateness=0)

    telemetry.gone(_server("web-1"))
    telemetry.gone(_server("never-seen"))

    assert "web-1" not in _page(telemetry.metrics)
    assert "web-2" in _page(telemetry.metrics)


def test_of_two_resources_that_had_one_name_the_newer_shows():
    telemetry = _telemetry()
    telemetry.collected(_sample("web-1"), duration=1, lateness=0)
    newer = replace(_server("web-1"), id=ServerId("another"))
    telemetry.collected(replace(_sample("web-1"), server=newer), duration=1, lateness=0)
    telemetry.gone(_server("web-1"))

    assert _page(telemetry.metrics).count("hostwatch_server_up{") == 1
    telemetry.gone(newer)
    assert "hostwatch_server_up{" not in _page(telemetry.metrics)


def test_series_per_server_can_be_switched_off():
    telemetry = _telemetry(server_metrics=False)
    telemetry.collected(_sample("web-1"), duration=1, lateness=0)

    assert "hostwatch_server_" not in _page(telemetry.metrics)
    assert (
        _value(
            telemetry.metrics,
            'hostwatch_collections_total{reason="Collected",result="success"}',
        )
        == 1
    )


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_has_a_series_from_the_start(reason):
    metrics = _telemetry().metrics
    series = f'hostwatch_collections_total{{reason="{reason}",result="failure"}}'

    assert _value(metrics, series) == 0
    metrics.collection.collected(_failed("web-1", reason), duration=1, lateness=0)
    assert _value(metrics, series) == 1


def test_the_time_of_the_last_upkeep_is_told():
    metrics = OperatorMetrics(version="1", now=lambda: 1_234.5)
    series = "hostwatch_postgres_upkeep_last_success_timestamp_seconds"

    metrics.store.maintained(succeeded=False)
    assert _value(metrics, series) == 0
    metrics.store.maintained(succeeded=True)
    assert _value(metrics, series) == 1_234.5


def test_the_process_itself_is_on_the_page_too():
    page = _telemetry().metrics.render()[0].decode()

    assert "\nprocess_resident_memory_bytes " in page
    assert "\nprocess_cpu_seconds_total " in page
    assert "_created" not in page


def test_two_registries_do_not_share_a_counter():
    one, other = _telemetry(), _telemetry()
    one.skipped(_server("web-1"))

    assert _value(one.metrics, "hostwatch_slots_skipped_total") == 1
    assert _value(other.metrics, "hostwatch_slots_skipped_total") == 0


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text;version=nonsense",
            "text/plain; version=0.0.4; charset=utf-8",
        ),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5",
            OPENMETRICS,
        ),
    ],
)
def test_the_format_is_the_one_that_was_asked_for(accept, content_type):
    assert _telemetry().metrics.render(accept)[1] == content_type
