"""TLS to the broker: the context of its connections, and what is wrong with a certificate."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from yarl import URL

from lmaas.broker_config.errors import SettingsError
from lmaas.broker_config.private_files import check_private, opened
from lmaas.broker_config.settings import Settings

#: What aiormq would read in a URL. Verification is never off, and files are settings.
_IN_URLS: Final = ("auth", "cafile", "capath", "cadata", "certfile", "keyfile", "no_verify_ssl")
#: By OpenSSL's number of why a certificate is not accepted: what it is, and what to do about the
#: broker's.
_NOT_ACCEPTED: Final = {
    9: ("is not valid yet", "compare the clocks of both machines"),
    10: ("has expired", "give the broker a new one"),
    18: ("is signed by itself", "name it, or its authority, in tls_ca"),
    19: ("is of an authority that is not known here", "name that in tls_ca"),
    20: ("is of an authority that is not known here", "name that in tls_ca"),
    21: ("is of an authority that is not known here", "name that in tls_ca"),
}
#: OpenSSL's numbers for a certificate of another host, and of another address.
_OTHER_HOST: Final = (62, 64)
#: What a client of AMQP 0-9-1 says first, and where.
_GREETING: Final = b"AMQP\0\0\x09\x01"
_PLAIN_PORT: Final = 5672
#: How an alert of TLS 1.0 to 1.3 begins (RFC 8446, 5.1).
_ALERT: Final = b"\x15\x03"
#: Bytes of a file with a certificate, in which a key is looked for.
_LARGEST: Final = 1024 * 1024
#: A part of OpenSSL's name for what the other side says, or of why it is not understood.
_SAID: Final = {
    "CERTIFICATE_EXPIRED": "the broker says that tls_certificate has expired; make a new one",
    "UNKNOWN_CA": "the broker does not know the authority of tls_certificate",
    "CERTIFICATE_REQUIRED": "the broker wants a certificate; set tls_certificate and tls_key",
    "HANDSHAKE_FAILURE": "the broker refused; where it wants a certificate, set tls_certificate "
    "and tls_key",
    "BAD_CERTIFICATE": "the broker does not accept tls_certificate",
    "PROTOCOL_VERSION": "the broker has no TLS 1.2 or 1.3, and nothing older is used",
    "UNSUPPORTED_PROTOCOL": "the broker has no TLS 1.2 or 1.3, and nothing older is used",
    "WRONG_VERSION_NUMBER": "there is no TLS at that port; TLS is most often at 5671",
}


def context_of(settings: Settings, urls: Sequence[URL]) -> ssl.SSLContext | None:
    """For the hosts with amqps, whichever they are; None when there is none.

    The files are read anew for each. Raises SettingsError when a file cannot be used, or would not
    be used, or when a host would get no certificate that it is to know the user by.
    """
    named = [name for name in ("tls_ca", "tls_certificate", "tls_key") if getattr(settings, name)]
    for url in urls:
        _check(url, settings)
    if not any(url.scheme == "amqps" for url in urls):
        if named:
            raise SettingsError(
                f"{', '.join(named)} would not be used, as no host of broker_url "
                f"{settings.broker!r} begins with amqps://: write amqps:// there (the port is most "
                "often 5671), or leave out the TLS settings"
            )
        return None
    try:
        context = verifying(settings.tls_ca)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(f"tls_ca {settings.tls_ca!r}: {_of_file(error)}") from error
    if settings.tls_certificate:
        load(context, settings.tls_certificate, settings.tls_key)
    return context


def load(context: ssl.SSLContext, certificate: str, key: str | None, section: str = "") -> None:
    """Our own certificate and its key, which may be in the same file.

    Raises SettingsError, with the names of the settings, which begin with `section`.
    """
    setting, path = "tls_certificate", certificate

    def no_passphrase() -> str:
        raise SettingsError(
            f"{section}{setting} {path!r}: the key needs a passphrase, for which nobody is asked; "
            "take a key without: `openssl pkey -in OLD -out NEW`, and `chmod 600 NEW`"
        )

    try:
        with opened(f"{section}{setting}", Path(path)) as file:
            has_key = b"PRIVATE KEY-----" in file.read(_LARGEST)
        if key is not None:
            setting, path = "tls_key", key
        elif not has_key:
            raise SettingsError(f"{section}{setting} {path!r} has no key: set {section}tls_key")
        with opened(f"{section}{setting}", Path(path)) as file:
            check_private(f"{section}{setting}", Path(path), file)
        context.load_cert_chain(certificate, key, no_passphrase)
    except OSError as error:
        of_another = getattr(error, "reason", None) == "KEY_VALUES_MISMATCH"
        told = f"it is not the key of {certificate!r}" if of_another else _of_file(error)
        raise SettingsError(f"{section}{setting} {path!r}: {told}") from error


def _of_file(error: OSError) -> str:
    """What is wrong with a file that TLS needs."""
    if isinstance(error, ssl.SSLError):
        return f"it is not the PEM that it should be ({error.reason or error})"
    return error.strerror or str(error)


async def answers(url: URL, limit: float) -> bool:
    """Whether what is there speaks TLS: it answers plain AMQP with an alert, within `limit` s."""
    try:
        async with asyncio.timeout(limit):
            reader, writer = await asyncio.open_connection(url.host, url.port or _PLAIN_PORT)
            try:
                writer.write(_GREETING)
                return await reader.readexactly(len(_ALERT)) == _ALERT
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False


def verifying(authorities: str | None = None) -> ssl.SSLContext:
    """For connections to others: their certificates, and their names in these, are verified.

    The authorities are those of the file, or those that the system trusts.
    """
    context = ssl.create_default_context(cafile=authorities)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _check(url: URL, settings: Settings) -> None:
    """Raises SettingsError."""
    for name in _IN_URLS:
        if name in url.query:
            raise SettingsError(
                f"broker_url {settings.broker!r}: {name} is not read there; the settings are "
                "tls_ca, tls_certificate, tls_key and broker_auth, and the broker's certificate "
                "is always verified"
            )
    if settings.broker_auth == "password":
        return
    if url.scheme != "amqps" or not settings.tls_certificate:
        raise SettingsError(
            "broker_auth is 'certificate', which needs tls_certificate, and amqps:// for every "
            f"host of broker_url {settings.broker!r}"
        )
    if not settings.broker_user:
        raise SettingsError(
            "broker_auth is 'certificate', which needs broker_user: the name by which the broker "
            "knows tls_certificate, with ssl_cert_login_from = common_name its CN"
        )
    if url.password is not None:
        raise SettingsError(
            f"broker_auth is 'certificate', and broker_url {settings.broker!r} has a password, "
            "which would not be used; leave it out"
        )


def flaw(error: ssl.SSLCertVerificationError, host: str | None) -> tuple[str, str]:
    """What is wrong with the certificate of a host, and what to do if that is the broker."""
    if error.verify_code in _OTHER_HOST:
        return f"is not for {host!r}", (
            "use a name that it is for in broker_url, or give the broker one for that (`lmaas "
            "broker certs --host`)"
        )
    told = f"is not accepted: {error.verify_message}"
    return _NOT_ACCEPTED.get(error.verify_code, (told, "see tls_ca"))


def said(error: ssl.SSLError, url: URL) -> str:
    """What is wrong, and what to do, in one sentence."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the broker's certificate {'; '.join(flaw(error, url.host))}"
    reason = error.reason or ""
    told = next((words for part, words in _SAID.items() if part in reason), None)
    return told or f"{error}; see tls_ca, tls_certificate"
