"""Which addresses webhooks may be sent to."""

from __future__ import annotations

import socket

import pytest

from astrapayd.egress import AddressRefused, EgressRules

PRIVATE_IPV4 = """
    0.0.0.0 10.1.2.3 100.64.0.1 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.8
    192.168.0.10 198.18.0.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
"""
PRIVATE_IPV6 = ":: ::1 fc00::1 fd12:3456::1 fe80::1 fe80::1%eth0 fec0::1 ff02::1 100::1 2001:db8::1 64:ff9b:1::1"
IPV4_INSIDE = """
    ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:a9fe:a9fe ::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::7f00:1
    2002:7f00:1:: 2002:c0a8:1::1
"""
PRIVATE = f"{PRIVATE_IPV4} {PRIVATE_IPV6} {IPV4_INSIDE}".split()
PUBLIC = ["1.1.1.1", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_address_refused(address: str) -> None:
    assert not EgressRules().permits(address)
    assert EgressRules(everything=True).permits(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_address_permitted(address: str) -> None:
    assert EgressRules().permits(address)


def test_only_the_networks_that_are_allowed() -> None:
    rules = EgressRules(["192.168.1.0/24", "fd00::/8", "127.0.0.1"])
    for address in ("192.168.1.7", "::ffff:192.168.1.7", "64:ff9b::c0a8:107", "fd00::1", "127.0.0.1", "1.1.1.1"):
        assert rules.permits(address), address
    for address in ("192.168.2.7", "::ffff:192.168.2.7", "fe80::1", "127.0.0.2", "::1"):
        assert not rules.permits(address), address


def test_no_socket_is_even_opened() -> None:
    with pytest.raises(AddressRefused):
        EgressRules().open_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 443)))
