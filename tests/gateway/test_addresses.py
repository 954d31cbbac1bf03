"""Where callbacks may go: by literal address, by name, by redirect."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from lmaas.producer.gateway.addresses import complaint, connector, networks, refusal
from lmaas.producer.gateway.routes import Handler

REFUSED = {
    "127.0.0.1": "loopback",
    "127.255.0.9": "loopback",
    "0.0.0.0": "unspecified",
    "0.1.2.3": "private",
    "10.0.0.1": "private",
    "172.16.0.1": "private",
    "192.168.1.1": "private",
    "100.64.0.1": "shared",
    "100.100.100.200": "shared",
    "169.254.169.254": "link-local",
    "168.63.129.16": "metadata",
    "192.0.2.1": "private",
    "224.0.0.1": "multicast",
    "239.1.1.1": "multicast",
    "240.0.0.1": "private",
    "255.255.255.255": "private",
    "::": "unspecified",
    "::1": "loopback",
    "::8.8.8.8": "IPv4-compatible",
    "::ffff:127.0.0.1": "loopback",
    "::ffff:7f00:1": "loopback",
    "::ffff:169.254.169.254": "link-local",
    "::ffff:0:0": "unspecified",
    "64:ff9b::169.254.169.254": "NAT64",
    "64:ff9b::8.8.8.8": "NAT64",
    "2001:0:1::1": "Teredo",
    "2002:7f00:1::": "6to4",
    "2001:db8::1": "private",
    "fc00::1": "private",
    "fd00:ec2::254": "private",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "fec0::1": "site-local",
    "ff02::1": "multicast",
    "ff0e::1": "multicast",
    "example.org": "unknown",
    "": "unknown",
}


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert refusal(address) == REFUSED[address]


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "::ffff:8.8.8.8", "2606:4700:4700::1111", "172.32.0.1"]
)
def test_addresses_of_the_internet_are_not(address: str) -> None:
    assert refusal(address) is None


def test_allowed_networks() -> None:
    allowed = networks(["127.0.0.0/8", "fd00::/8", "10.1.2.3"])
    for address in ("127.0.0.1", "::ffff:127.0.0.1", "fd00::1", "10.1.2.3"):
        assert refusal(address, allowed) is None
    for address in ("10.1.2.4", "::1", "64:ff9b::127.0.0.1", "169.254.169.254"):
        assert refusal(address, allowed)
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/8"):
        networks(["10.0.0.1/8"])


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://169.254.169.254/latest/meta-data", "link-local"),
        ("http://[::ffff:127.0.0.1]/", "loopback"),
        ("https://10.0.0.1:8443", "private"),
        ("ftp://example.org/", "http://"),
        ("file:///etc/passwd", "http://"),
        ("example.org", "http://"),
        ("http://", "http://"),
        ("", "http://"),
        ("http://[", "no URL"),
        ("http://example.org:99999/", "no URL"),
        ("http://user:word@example.org/", "password"),
        ("http://example.org/a b", "space"),
        ("http://example.org/\x00", "control"),
    ],
)
def test_a_url_that_cannot_be_one_of_callbacks(url: str, words: str) -> None:
    assert words in (complaint(url) or "")


def test_a_url_that_can() -> None:
    assert complaint("https://example.org/hook?x=1") is None
    assert complaint("http://8.8.8.8:80/") is None
    assert complaint("http://127.0.0.1/", networks(["127.0.0.0/8"])) is None


class Resolver(AbstractResolver):
    """Says that every name has these addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self.addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""


@contextlib.asynccontextmanager
async def receiver(handler: Handler) -> AsyncIterator[int]:
    """A server of this machine; gives its port."""
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "addresses",
    [
        ("169.254.169.254",),
        ("::ffff:127.0.0.1",),
        ("::1", "127.0.0.1"),
        ("64:ff9b::7f00:1", "10.0.0.1"),
        ("fe80::1%lo",),
    ],
)
async def test_a_name_that_leads_inside_is_refused(addresses: tuple[str, ...]) -> None:
    async with aiohttp.ClientSession(connector=connector(resolver=Resolver(*addresses))) as http:
        with pytest.raises(aiohttp.ClientConnectorError, match="where callbacks do not go"):
            await http.post("http://receiver.example/")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        # Other ways to write it, which the resolver of the system understands.
        "http://0x7f.1:{port}/",
        "http://localhost:{port}/",
        "http://0.0.0.0:{port}/",
    ],
)
async def test_nothing_is_sent_to_what_listens_inside(url: str) -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response()

    async with receiver(answer) as port:
        async with aiohttp.ClientSession(connector=connector()) as http:
            with pytest.raises(aiohttp.ClientConnectorError, match="where callbacks do not go"):
                await http.post(url.format(port=port))
        assert not seen
        allowed = networks(["127.0.0.0/8", "0.0.0.0/32", "::1/128"])
        async with (
            aiohttp.ClientSession(connector=connector(allowed)) as http,
            http.post(url.format(port=port)) as response,
        ):
            assert response.status == 200
        assert seen == ["/"]


async def test_a_redirect_that_is_followed_leads_nowhere_else() -> None:
    async def elsewhere(_request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect("http://169.254.169.254/")

    async with receiver(elsewhere) as port:
        allowed = networks(["127.0.0.0/8"])
        async with aiohttp.ClientSession(connector=connector(allowed)) as http:
            with pytest.raises(aiohttp.ClientConnectorError, match=r"169\.254\.169\.254 is"):
                await http.post(f"http://127.0.0.1:{port}/")
