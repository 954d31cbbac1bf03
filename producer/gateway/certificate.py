"""The certificate of the gateway's HTTPS, which is read again when its files have changed."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Final

from lmaas.broker_config import tls
from lmaas.broker_config.errors import SettingsError
from lmaas.producer.gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

#: Seconds between two looks at the files.
INTERVAL: Final = 5.0


class Certificate:
    """`gateway.tls_certificate` with its key."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Raises SettingsError when the files cannot be used."""
        self._settings = settings
        self._seen = self._stamp()
        #: What connections begin with; those that have begun keep what they have.
        self.context = _context()
        self._load(self.context)

    async def renew(self) -> None:
        """Looks for ever. Files that cannot be used are told, and change nothing."""
        while True:
            await asyncio.sleep(INTERVAL)
            stamp = self._stamp()
            if stamp == self._seen:
                continue
            self._seen = stamp
            try:
                self._load(_context())  # a context that fails to load has neither old nor new
                self._load(self.context)
            except SettingsError as error:
                log.warning("the old certificate stays: %s", error,
                            extra={"action": "certificate_kept"})  # fmt: skip
            else:
                log.info("a new certificate is used", extra={"action": "certificate_renewed"})

    def _stamp(self) -> list[tuple[int, int, int]]:
        """Another one where a file was changed or replaced."""
        found = []
        for name in (self._settings.tls_certificate, self._settings.tls_key):
            try:
                status = Path(name or "").stat()
            except OSError:
                continue
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return found

    def _load(self, context: ssl.SSLContext) -> None:
        """Raises SettingsError."""
        certificate, key = self._settings.tls_certificate, self._settings.tls_key
        assert certificate is not None
        tls.load(context, certificate, key, "gateway.")


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
