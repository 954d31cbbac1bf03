"""`lmaas broker certs`: what it makes, keeps and refuses. That they work: tests/integration."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from lmaas.broker_config.certificates import Authority, Pair
from lmaas.broker_config.errors import DataError, OptionError
from lmaas.broker_config.hosts import check
from lmaas.broker_config.settings import Settings
from lmaas.cli.broker_certs import command

SECURITY = Path(__file__).parents[3] / "docs" / "security.md"


def certs(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, [str(folder), *arguments])


def read(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes())


def test_they_are_made(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "pki"
    ended = certs(folder, "--host", "broker.example", "--host", "10.0.0.7", "--user", "me",
                  "--days", "30")  # fmt: skip
    assert ended.exit_code == 0, ended.output
    names = ("ca", "broker", "http", "user-me")
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{name}.{kind}" for name in names for kind in ("pem", "key")
    )
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.glob("*.key"))
    broker, user = read(folder, "broker"), read(folder, "user-me")
    hosts = broker.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert hosts.get_values_for_type(x509.DNSName) == ["broker.example"]
    assert list(map(str, hosts.get_values_for_type(x509.IPAddress))) == ["10.0.0.7"]
    assert user.subject.rfc4514_string() == "CN=me"
    for made in (broker, user):
        made.verify_directly_issued_by(read(folder, "ca"))
        left = made.not_valid_after_utc - datetime.now(UTC)
        assert timedelta(days=29) < left <= timedelta(days=30)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    assert certs(tmp_path, "--user", "me").exit_code == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    ended = certs(tmp_path, "--user", "me", "--user", "other")
    assert ended.output.count("kept, expires") == 3
    assert {path: path.read_bytes() for path in before} == before
    # Another one by the same authority, once the old one is gone.
    for name in ("broker.pem", "broker.key"):
        (tmp_path / name).unlink()
    assert certs(tmp_path).exit_code == 0
    read(tmp_path, "broker").verify_directly_issued_by(read(tmp_path, "ca"))
    assert (tmp_path / "ca.pem").read_bytes() == before[tmp_path / "ca.pem"]


def test_hosts_that_a_kept_certificate_is_not_for_are_told(tmp_path: Path) -> None:
    certs(tmp_path, "--host", "one.example", "--host", "10.0.0.7")
    again = certs(tmp_path, "--host", "10.0.0.7", "--host", "two.example")
    for name in ("broker", "http"):
        path = tmp_path / name
        assert f"{path}.pem: not for two.example: delete it and {path}.key" in again.stderr
    assert "not for" not in certs(tmp_path, "--user", "more").output


def test_what_has_expired_is_told(tmp_path: Path) -> None:
    Authority.at(tmp_path).issue(Pair.named(tmp_path, "broker"), "broker", 0, "server", ["x"])
    assert "broker.pem: kept, expired 20" in certs(tmp_path).output


@pytest.mark.parametrize("half", ["ca.pem", "ca.key", "broker.key", "user-worker.pem"])
def test_half_of_a_pair_is_told(tmp_path: Path, half: str) -> None:
    assert certs(tmp_path).exit_code == 0
    (tmp_path / half).unlink()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    ended = certs(tmp_path)
    assert isinstance(ended.exception, DataError)
    assert "without its other half" in str(ended.exception)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_key_of_another_authority(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert certs(tmp_path / name).exit_code == 0
    (tmp_path / "a" / "ca.key").write_bytes((tmp_path / "b" / "ca.key").read_bytes())
    assert "is not the key of" in str(certs(tmp_path / "a").exception)
    (tmp_path / "a" / "ca.key").write_bytes(b"nothing")
    assert "no private key" in str(certs(tmp_path / "a").exception)


@pytest.mark.parametrize("user", ["../x", "a/b", ".hidden", "", "x" * 65, "a\nb"])
def test_a_user_that_is_no_name(tmp_path: Path, user: str) -> None:
    assert isinstance(certs(tmp_path, "--user", user).exception, DataError | OptionError)


def test_a_worker_can_be_started_as_it_and_the_docs_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = certs(Path("pki")).stdout
    (documented,) = re.findall(
        r"^lmaas broker certs pki .*\n((?:.*\\\n)*.*lmaas worker)$",
        SECURITY.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    for text in (printed, documented):
        named = dict(re.findall(r"\bLMAAS_(\w+)=(\S+)", text))
        settings = Settings(**{name.lower(): value for name, value in named.items()})
        check(settings)
        assert settings.user == "worker"
