from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from hostwatch.model.reason import CollectionError, Reason
from hostwatch.ssh.destination import DestinationPolicy


def policy(allowed=(), cluster=(), ports="1-65535"):
    return DestinationPolicy(
        allowed=[ip_network(text) for text in allowed],
        cluster_cidrs=[ip_network(text) for text in cluster],
        allowed_ports=ports,
    )


def is_open(address, *, port=22, **settings):
    return refusal(address, port=port, **settings) is None


def refusal(address, *, port=22, **settings):
    try:
        policy(**settings).check(ip_address(address), port)
    except CollectionError as error:
        return error
    return None


@pytest.mark.parametrize(
    "address",
    [
        "93.184.216.34",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "2606:2800:220:1::1",
        "fd12:3456:789a::1",
        "::ffff:10.0.0.1",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
    ],
)
def test_public_and_private_unicast_is_open(address):
    assert is_open(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "::1",
        "0.0.0.0",  # noqa: S104 - an address to connect to
        "0.1.2.3",
        "::",
        "169.254.169.254",
        "fe80::1",
        "fe80::1%2",
        "224.0.0.1",
        "239.255.255.255",
        "ff02::1",
        "240.0.0.1",
        "255.255.255.255",
        "fec0::1",
        "100::1",
        "4000::1",
        "e000::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0.0.0.0",
        "64:ff9b::127.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::10.0.0.1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        # Teredo: the client's address is stored inverted (RFC 4380 4).
        "2001:0:4136:e378:8000:63bf:80ff:fffe",
    ],
)
def test_what_is_no_unicast_of_others_is_closed(address):
    error = refusal(address)
    assert error.reason == Reason.DESTINATION_FORBIDDEN
    assert "HOSTWATCH_ALLOWED_DESTINATIONS" in error.detail
    assert not error.reached


def test_the_cluster_is_closed():
    assert not is_open("10.96.0.1", cluster=["10.96.0.0/12"])
    assert not is_open("::ffff:10.96.0.1", cluster=["10.96.0.0/12"])
    assert is_open("10.200.0.1", cluster=["10.96.0.0/12"])
    assert not is_open("fd00:1::7", cluster=["fd00:1::/64"])


def test_a_list_opens_nothing_else():
    assert is_open("10.1.0.1", allowed=["10.1.0.0/16", "2001:db8::/32"])
    assert is_open("2001:db8::1", allowed=["10.1.0.0/16", "2001:db8::/32"])
    assert not is_open("10.2.0.1", allowed=["10.1.0.0/16"])
    assert not is_open("2001:db9::1", allowed=["10.1.0.0/16", "2001:db8::/32"])


def test_a_closed_network_opens_only_through_an_entry_inside_it():
    assert not is_open("127.0.0.1", allowed=["0.0.0.0/0"])
    assert not is_open("127.0.0.1", allowed=["126.0.0.0/7"])
    assert is_open("127.0.0.1", allowed=["127.0.0.0/8"])
    assert is_open("127.0.0.1", allowed=["127.0.0.1/32"])
    assert not is_open("127.0.0.2", allowed=["127.0.0.1/32"])
    assert not is_open("::1", allowed=["::/0"])
    assert is_open("::1", allowed=["::1/128"])
    assert is_open("10.96.0.7", allowed=["10.96.0.0/24"], cluster=["10.96.0.0/12"])
    assert not is_open("10.96.0.7", allowed=["10.0.0.0/8"], cluster=["10.96.0.0/12"])


def test_an_entry_opens_the_inner_address_however_it_is_wrapped():
    assert is_open("::ffff:127.0.0.1", allowed=["127.0.0.1/32"])
    assert not is_open("64:ff9b::8.8.8.8", allowed=["64:ff9b::/96"])
    assert is_open("64:ff9b::8.8.8.8", allowed=["8.8.8.0/24"])


def test_the_message_says_what_is_closed():
    assert "loopback" in refusal("127.0.0.1").detail
    inside = refusal("10.96.0.1", cluster=["10.96.0.0/12"])
    assert "HOSTWATCH_CLUSTER_CIDRS" in inside.detail
    outside = refusal("10.2.0.1", allowed=["10.1.0.0/16"])
    assert "HOSTWATCH_ALLOWED_DESTINATIONS" in outside.detail
    port = refusal("10.0.0.1", port=23, ports="22")
    assert "HOSTWATCH_ALLOWED_PORTS" in port.detail


def test_ports_are_numbers_and_ranges():
    settings = {"ports": "22, 2200-2202"}
    assert is_open("10.0.0.1", port=22, **settings)
    assert is_open("10.0.0.1", port=2200, **settings)
    assert is_open("10.0.0.1", port=2202, **settings)
    assert not is_open("10.0.0.1", port=23, **settings)
    assert not is_open("10.0.0.1", port=2203, **settings)
