"""Where the daemon may connect to on a merchant's behalf: not into the network it stands in, unless allowed.

Judged for the very address that a socket is about to be connected to, so that neither a DNS answer that changes, a
literal address in the URL nor another spelling of it gets past.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from aiohttp import ClientSession
    from aiohttp.abc import AbstractResolver

_Network = IPv4Network | IPv6Network

# Beyond what ``is_global`` knows, which differs between Python's versions.
_NEVER_PUBLIC: Final = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/127",
        "64:ff9b:1::/48",
        "100::/64",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
_NAT64: Final = IPv6Network("64:ff9b::/96")
_IPV4_COMPATIBLE: Final = IPv6Network("::/96")


class AddressRefused(OSError):
    """The address is not public. An OSError, so that the next address of the same host is tried."""

    def __init__(self) -> None:
        super().__init__("the address is private")  # one text for all: several of them then count as one


class EgressRules:
    """Which addresses may be connected to: public ones, and those of ``allowed`` networks."""

    def __init__(self, allowed: Iterable[str] = (), *, everything: bool = False) -> None:
        """:param allowed: addresses or networks in CIDR notation.
        :param everything: no rule at all."""
        self._allowed: tuple[_Network, ...] = tuple(ip_network(network) for network in allowed)
        self._everything = everything

    def permits(self, address: str) -> bool:
        """Whether a socket may be connected to ``address``, as getaddrinfo writes it."""
        if self._everything:
            return True
        literal = ip_address(address.partition("%")[0])  # fe80::1%eth0
        if self._is_allowed(literal):
            return True
        # An IPv6 form that leads to an IPv4 address is judged by that one, whatever is said of the form itself.
        leads_to = _embedded(literal) or {literal}
        return all(self._is_allowed(target) or _is_public(target) for target in leads_to)

    def _is_allowed(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._allowed if network.version == address.version)

    def open_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for one address of getaddrinfo; aiohttp calls this right before it connects.

        :raises AddressRefused: if the rules do not permit that address.
        """
        family, type, proto, _, peer = info
        if not self.permits(peer[0]):
            raise AddressRefused
        return socket.socket(family, type, proto)


def guarded_session(
    rules: EgressRules,
    *,
    user_agent: str,
    total_secs: float,
    connect_secs: float,
    resolver: AbstractResolver | None = None,
) -> ClientSession:
    """An HTTP client that keeps to the rules, keeps no cookies, and takes no proxy from the environment."""
    import aiohttp  # 0.2 s that a command line without deliveries need not spend

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0,  # the caller bounds its own; a common limit would let hanging hosts starve the others
            socket_factory=rules.open_socket,
            resolver=resolver,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=total_secs, sock_connect=connect_secs),
        headers={"User-Agent": user_agent},
        auto_decompress=False,  # nobody reads that far, and a small answer cannot become a large one
    )


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if not address.is_global or address.is_multicast:
        return False
    return not any(address in network for network in _NEVER_PUBLIC if network.version == address.version)


def _embedded(address: IPv4Address | IPv6Address) -> set[IPv4Address | IPv6Address]:
    """The IPv4 addresses that an IPv6 address leads to: mapped, NAT64, 6to4, Teredo, and the old compatible form."""
    if not isinstance(address, IPv6Address):
        return set()
    found: set[IPv4Address | IPv6Address] = set()
    if address.ipv4_mapped is not None:
        found.add(address.ipv4_mapped)
    if address.sixtofour is not None:
        found.add(address.sixtofour)
    if address.teredo is not None:
        found.update(address.teredo)
    if address in _NAT64 or (address in _IPV4_COMPATIBLE and int(address) > 1):
        found.add(IPv4Address(int(address) & 0xFFFF_FFFF))
    return found
