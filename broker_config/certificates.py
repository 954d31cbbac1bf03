"""A private authority and certificates of it, for tests and small installations (X.509, P-256).

An authority is worth as much as its key: whoever has `ca.key` can be the broker or any user.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lmaas.broker_config.errors import DataError
from lmaas.broker_config.new_files import write_new

#: Days for which the authority is valid.
AUTHORITY_DAYS: Final = 3650
#: Clocks may differ: a certificate is valid from a little before it was made.
_EARLIER: Final = datetime.timedelta(minutes=5)
#: Characters of a common name, at most (RFC 5280).
_LONGEST_NAME: Final = 64

Use = Literal["server", "client"]
_USES: Final = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
}


@dataclass(frozen=True, slots=True)
class Pair:
    """The PEM files of a certificate and of its key."""

    certificate: Path
    key: Path

    @classmethod
    def named(cls, folder: Path, name: str) -> Self:
        return cls(folder / f"{name}.pem", folder / f"{name}.key")

    def expires(self) -> datetime.datetime | None:
        """When; None where there is none yet. Raises DataError when one of two is missing."""
        there = [path for path in (self.certificate, self.key) if path.exists()]
        if len(there) == 1:
            raise DataError(
                f"{there[0]} is there without its other half: delete it, or bring that back"
            )
        return self._read().not_valid_after_utc if there else None

    def lacks(self, hosts: Sequence[str]) -> list[str]:
        """Those of the hosts that the certificate is not for. Raises DataError."""
        try:
            names = self._read().extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except x509.ExtensionNotFound:
            return [*hosts]
        return [host for host in hosts if _host(host) not in names.value]

    def _read(self) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificate(self.certificate.read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(f"{self.certificate}: no certificate: {error}") from error


class Authority:
    """Signs certificates."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def at(cls, folder: Path) -> Self:
        """The one in `ca.pem` and `ca.key` of a folder, made if there is none. Raises DataError."""
        pair = Pair.named(folder, "ca")
        if pair.expires() is None:
            return cls._made(pair)
        try:
            key = load_pem_private_key(pair.key.read_bytes(), password=None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise DataError(f"{pair.key}: no private key: {error}") from error
        certificate = pair._read()
        if not isinstance(key, ec.EllipticCurvePrivateKey) or (
            key.public_key() != certificate.public_key()
        ):
            raise DataError(f"{pair.key} is not the key of {pair.certificate}")
        return cls(certificate, key)

    @classmethod
    def _made(cls, pair: Pair) -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("LMaaS private authority")
        builder = (
            _builder(name, name, key.public_key(), AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs=True), critical=True)
        )
        certificate = builder.sign(key, SHA256())
        _write(pair, certificate, key)
        return cls(certificate, key)

    def issue(
        self, pair: Pair, name: str, days: int, use: Use, hosts: Sequence[str] = ()
    ) -> datetime.datetime:
        """Makes a certificate for `name`, and for these hosts (names or addresses).

        Returns when it expires: no later than the authority does. Raises DataError, also when
        something is there.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        signer = self._certificate
        builder = (
            _builder(_name(name), signer.subject, key.public_key(), days, signer)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([_USES[use]]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if hosts:
            names = x509.SubjectAlternativeName([_host(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(self._key, SHA256())
        _write(pair, certificate, key)
        return certificate.not_valid_after_utc


def _name(name: str) -> x509.Name:
    if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
        raise DataError(f"{name!r} cannot be the name in a certificate: 1 to 64 characters")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host.encode("idna").decode())
    except UnicodeError as error:
        raise DataError(f"{host!r} is no name of a host") from error


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    days: int,
    signer: x509.Certificate | None = None,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    end = now + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(min(end, signer.not_valid_after_utc) if signer else end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write(pair: Pair, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_new(pair.key, private, 0o600)
    write_new(pair.certificate, certificate.public_bytes(Encoding.PEM), 0o644)
