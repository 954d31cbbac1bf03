"""Which addresses callbacks may go to: only those of the public internet, unless allowed.

The check is made at the socket, after names are resolved, so that no name leads to another place.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver

from lmaas.broker_config import tls

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: What Python's own table calls global, or does not know in all versions.
_OTHERS: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ipaddress.ip_network(network), what)
    for network, what in (
        ("100.64.0.0/10", "shared"),
        # Azure's platform: metadata and more, at a public address.
        ("168.63.129.16/32", "metadata"),
        ("192.88.99.0/24", "6to4"),
        ("::/96", "IPv4-compatible"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("2001::/32", "Teredo"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fec0::/10", "site-local"),
    )
)
_KINDS: Final = (
    ("unspecified", "is_unspecified"),
    ("loopback", "is_loopback"),
    ("link-local", "is_link_local"),
    ("multicast", "is_multicast"),
    ("private", "is_private"),
    ("reserved", "is_reserved"),
)


class AddressRefused(OSError):
    """A callback leads to an address that callbacks may not go to."""


def networks(allowed: Iterable[str]) -> tuple[Network, ...]:
    """Of CIDR like 10.0.0.0/8, or single addresses. Raises ValueError naming the wrong one."""
    return tuple(ipaddress.ip_network(text) for text in allowed)


def refusal(address: str, allowed: Sequence[Network] = ()) -> str | None:
    """What kind of address it is, when callbacks may not go there; None: they may."""
    try:
        # A scope like %eth0 changes nothing.
        given = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    forms: list[Address] = [given]
    if isinstance(given, ipaddress.IPv6Address) and given.ipv4_mapped is not None:
        forms.append(given.ipv4_mapped)
    if any(form in network for form in forms for network in allowed):
        return None
    return _kind(forms[-1])


def _kind(address: Address) -> str | None:
    for network, what in _OTHERS:
        if address in network and not (address.is_loopback or address.is_unspecified):
            return what
    for what, attribute in _KINDS:
        if getattr(address, attribute):
            return what
    return None if address.is_global else "reserved"


def complaint(url: str, allowed: Sequence[Network] = ()) -> str | None:
    """Why a URL cannot be one of callbacks, as far as it says so itself; None: it can be."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"it is no URL: {error}"
    if parts.scheme not in {"http", "https"} or not host:
        return "it is no URL that begins with http:// or https://"
    if parts.username is not None or parts.password is not None:
        return "it has a user or a password, which requests would not send"
    if any(not character.isprintable() or character.isspace() for character in url):
        return "it has a space or a control character"
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        # A name, which is resolved at each try.
        return None
    kind = refusal(host, allowed)
    return _words(host, kind) if kind else None


def _words(address: str, kind: str) -> str:
    return (
        f"{address} is {_article(kind)} {kind} address, where callbacks do not go; the setting "
        "gateway.allowed_networks allows networks"
    )


def _article(word: str) -> str:
    return "an" if word[0] in "aeiouI" else "a"


def guard(allowed: Sequence[Network] = ()) -> Callable[[tuple[Any, ...]], socket.socket]:
    """Makes the sockets of a connector; raises AddressRefused instead of one that may not be."""

    def make(place: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = place
        if what := refusal(str(address[0]), allowed):
            raise AddressRefused(errno.EACCES, _words(str(address[0]), what))
        return socket.socket(family, kind, protocol)

    return make


def connector(
    allowed: Sequence[Network] = (), *, resolver: AbstractResolver | None = None
) -> aiohttp.TCPConnector:
    """For a session whose requests go to allowed addresses only, whatever leads there.

    Certificates of hosts are verified by the authorities that the system trusts now.
    """
    return aiohttp.TCPConnector(
        socket_factory=guard(allowed), resolver=resolver, limit=0, ssl=tls.verifying()
    )
