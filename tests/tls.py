"""TLS for the whole suite, with LMAAS_TEST_TLS=1: brokers that tests start listen by it alone.

The certificates are those that `lmaas broker certs` makes. Clients in this process, and processes
that tests start, trust their authority by SSL_CERT_FILE, which OpenSSL reads.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from lmaas.broker_config import node_folder
from lmaas.broker_config.certificates import Authority, Pair
from lmaas.broker_config.local_node import LocalNode

SWITCH: Final = "LMAAS_TEST_TLS"
#: What brokers and proxies of tests are reached by.
_HOSTS: Final = ("127.0.0.1", "localhost")
_PLAIN: Final = "listeners.tcp.local = 127.0.0.1:{port}\n"
#: As the product has them.
_CONFIGURATION: Final = node_folder._CONFIGURATION
_URL: Final = LocalNode.url


class Certificates:
    """An authority, and a certificate for whatever listens on this machine."""

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "ca.pem"
        self.server = Pair.named(folder, "broker")
        Authority.at(folder).issue(self.server, "broker", 1, "server", _HOSTS)

    def of_server(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.server.certificate, self.server.key)
        return context

    def of_client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)

    @contextlib.contextmanager
    def everywhere(self) -> Iterator[None]:
        """Nodes that are made in this process listen by TLS, and all trust them."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"):
                patch.setenv(name, str(self.ca))
            assert _PLAIN in _CONFIGURATION
            by_tls = _CONFIGURATION.replace(_PLAIN, self._listener())
            patch.setattr(node_folder, "_CONFIGURATION", by_tls)
            patch.setattr(LocalNode, "url", property(_by_tls))
            yield

    def _listener(self) -> str:
        return (
            "listeners.tcp = none\n"
            "listeners.ssl.local = 127.0.0.1:{port}\n"
            f"ssl_options.cacertfile = {self.ca}\n"
            f"ssl_options.certfile = {self.server.certificate}\n"
            f"ssl_options.keyfile = {self.server.key}\n"
        )


@contextlib.contextmanager
def nowhere() -> Iterator[None]:
    """Nodes that are made meanwhile listen as they were told, also within another `nowhere`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(node_folder, "_CONFIGURATION", _CONFIGURATION)
        patch.setattr(LocalNode, "url", _URL)
        patch.delenv("SSL_CERT_FILE", raising=False)
        yield


def _by_tls(node: LocalNode) -> str:
    url: str = _URL.__get__(node)
    return url.replace("amqp://", "amqps://", 1)


def are_wanted() -> bool:
    return os.environ.get(SWITCH) == "1"
