from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from hostwatch.bus.messages import resources_message
from hostwatch.model.reading import CpuUsage
from hostwatch.model.reason import Reason
from hostwatch.model.sample import Health, Metrics, Sample
from hostwatch.model.server import Organization, ServerId, ServerKey

SERVER = ServerKey(
    id=ServerId("0b5c6a1e-4f6e-4d9e-9a53-0a4c36a1f111"),
    namespace="acme",
    name="web-1",
    organization=Organization("acme"),
)
NOON = datetime(2026, 11, 23, 12, 0, 30, 123456, tzinfo=UTC)
METRICS = Metrics(
    cpu=CpuUsage(total=12.5, user=8.0, system=3.0, iowait=1.5, steal=0.0),
    memory_used=4_000_000_000,
    memory_total=8_000_000_000,
    disk_used=70,
    disk_available=30,
    disk_total=105,
    disk_mount="/var",
    network_receive_bytes=1_000,
    network_transmit_bytes=2_000,
    load=(0.1, 0.2, 0.3),
    uptime_seconds=86_400,
)


def _sample(
    *,
    status: Health = Health.HEALTHY,
    reason: Reason | None = None,
    metrics: Metrics = METRICS,
    at: datetime = NOON,
) -> Sample:
    return Sample(
        server=SERVER, collected_at=at, status=status, reason=reason, metrics=metrics
    )


def test_the_body_of_a_collection():
    assert resources_message(_sample()).body == (
        b'{"server_id":"0b5c6a1e-4f6e-4d9e-9a53-0a4c36a1f111","server_name":"web-1",'
        b'"namespace":"acme","organization":"acme","metrics":{"cpu_usage":12.5,'
        b'"memory_usage":4000000000,"memory_total":8000000000,"disk_usage":70,'
        b'"disk_available":30,"disk_total":105,"disk_mount":"/var",'
        b'"network_rx_bytes":1000,"network_tx_bytes":2000,'
        b'"load_average":[0.1,0.2,0.3],"uptime_seconds":86400},"status":"healthy",'
        b'"reason":null,"timestamp":"2026-11-23T12:00:30.123456Z"}'
    )


def test_the_body_of_a_failed_collection():
    sample = _sample(
        status=Health.ERROR, reason=Reason.CONNECTION_REFUSED, metrics=Metrics()
    )

    assert resources_message(sample).body == (
        b'{"server_id":"0b5c6a1e-4f6e-4d9e-9a53-0a4c36a1f111","server_name":"web-1",'
        b'"namespace":"acme","organization":"acme","metrics":{"cpu_usage":null,'
        b'"memory_usage":null,"memory_total":null,"disk_usage":null,'
        b'"disk_available":null,"disk_total":null,"disk_mount":null,'
        b'"network_rx_bytes":null,"network_tx_bytes":null,"load_average":null,'
        b'"uptime_seconds":null},"status":"error","reason":"ConnectionRefused",'
        b'"timestamp":"2026-11-23T12:00:30.123456Z"}'
    )


def test_the_headers_are_a_cloud_event():
    assert resources_message(_sample()).headers == {
        "ce-specversion": "1.0",
        "ce-id": "0b5c6a1e-4f6e-4d9e-9a53-0a4c36a1f111/2026-11-23T12:00:30.123456Z",
        "ce-type": "server.resources.updated",
        "ce-source": "hostwatch/acme/web-1",
        "ce-time": "2026-11-23T12:00:30.123456Z",
        "content-type": "application/json",
    }


def test_the_subject_is_the_servers():
    assert resources_message(_sample()).subject == "hostwatch.acme.resources.acme.web-1"


def test_every_row_has_its_own_event_id():
    later = _sample(at=NOON + timedelta(microseconds=1))

    assert (
        resources_message(later).headers["ce-id"]
        != (resources_message(_sample()).headers["ce-id"])
    )
    assert resources_message(_sample()) == resources_message(_sample())


def test_a_whole_second_keeps_its_microseconds_and_another_zone_becomes_utc():
    whole = datetime(2026, 1, 1, 1, 0, 0, tzinfo=timezone(timedelta(hours=2)))

    headers = resources_message(_sample(at=whole)).headers

    assert headers["ce-time"] == "2025-12-31T23:00:00.000000Z"


def test_a_number_that_json_has_no_word_for_is_refused():
    metrics = Metrics(load=(float("nan"), 0.0, 0.0))

    with pytest.raises(ValueError, match="JSON compliant"):
        resources_message(_sample(metrics=metrics))
