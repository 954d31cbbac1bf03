"""Files of TLS that are wrong: each is named, with what to do, and nobody is asked anything."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from lmaas.broker_config.certificates import Authority, Pair
from lmaas.broker_config.errors import SettingsError
from lmaas.broker_config.hosts import check
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.tls import load


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return issued(tmp_path, "mine")


def issued(folder: Path, name: str) -> Pair:
    pair = Pair.named(folder, name)
    Authority.at(folder).issue(pair, name, 1, "client")
    return pair


def refused(certificate: Path, key: Path | None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(ssl.create_default_context(), str(certificate), key and str(key), "part.")
    return str(caught.value)


def test_a_pair_is_taken_also_from_one_file(tmp_path: Path, pair: Pair) -> None:
    both = tmp_path / "both.pem"
    both.touch(0o600)
    both.write_bytes(pair.key.read_bytes() + pair.certificate.read_bytes())
    for certificate, key in ((pair.certificate, str(pair.key)), (both, None)):
        load(ssl.create_default_context(), str(certificate), key)
    both.chmod(0o644)
    assert "part.tls_certificate" in (told := refused(both, None))
    assert "can be read by everybody" in told


def test_what_is_wrong_is_told_with_the_setting_and_the_file(tmp_path: Path, pair: Pair) -> None:
    other, none = issued(tmp_path, "other"), tmp_path / "none"
    certificate, key = f"part.tls_certificate '{pair.certificate}'", "part.tls_key"
    assert refused(pair.certificate, None) == f"{certificate} has no key: set {key}"
    told = refused(pair.certificate, other.key)
    assert told == f"{key} '{other.key}': it is not the key of '{pair.certificate}'"
    assert refused(pair.certificate, none) == f"{key} '{none}': No such file or directory"
    assert refused(none, pair.key) == f"part.tls_certificate '{none}': No such file or directory"
    text = tmp_path / "text"
    text.touch(0o600)
    text.write_text("a text")
    assert f"{key} '{text}': it is not the PEM that it should be" in refused(pair.certificate, text)


def test_an_authority_that_is_none_is_named(tmp_path: Path, pair: Pair) -> None:
    for wrong, words in ((tmp_path / "none", "No such file"), (pair.key, "is not the PEM")):
        with pytest.raises(SettingsError, match=rf"tls_ca '{wrong}': .*{words}"):
            check(Settings(broker_url="amqps://host/", tls_ca=str(wrong)))


def test_nobody_is_asked_for_a_passphrase(pair: Pair) -> None:
    key = load_pem_private_key(pair.key.read_bytes(), None)
    sealed = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"a passphrase")
    )
    pair.key.write_bytes(sealed)
    told = refused(pair.certificate, pair.key)
    assert f"part.tls_key '{pair.key}': the key needs a passphrase" in told


def test_a_pipe_keeps_nobody_waiting(tmp_path: Path, pair: Pair) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    assert "is no file" in refused(pipe, pair.key)
    assert "is no file" in refused(pair.certificate, pipe)
