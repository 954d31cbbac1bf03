"""The file of payload keys: who may read it, and what becomes of its changes."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from lmaas.broker_config import payload_keys
from lmaas.broker_config.errors import SettingsError
from lmaas.broker_config.payload_keys import KeyFile, key_file
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.settings import Settings
from tests.payload_keys import new_keys


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return new_keys(tmp_path / "payload.keys")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o602, 0o610])
def test_a_file_that_others_can_use_is_refused_with_what_to_do(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(SettingsError, match=rf"mode {mode:04o}.*chmod 600 {path}"):
        Seals(Settings(payload_keys=str(path)))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        key_file(str(tmp_path / "none"))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(SettingsError, match="is no file"):
        key_file(str(pipe))
    with pytest.raises(SettingsError, match="irectory"):
        key_file(str(tmp_path))
    binary = tmp_path / "binary"
    binary.touch(0o600)
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="is no text"):
        key_file(str(binary))
    binary.write_bytes(b"#" * payload_keys.LARGEST + b"#")
    with pytest.raises(SettingsError, match="more than 65,536 bytes"):
        key_file(str(binary))


def test_a_key_that_has_just_come_is_found_at_once(path: Path) -> None:
    file = KeyFile(path)
    assert "b" not in file.keyring("b")
    new_keys(path, "a", "b")
    assert "b" in file.keyring("b")


def test_a_change_is_seen_soon(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = KeyFile(path)
    new_keys(path, "b", "a")
    assert file.keyring().first == "a"
    monkeypatch.setattr(payload_keys, "LOOK", 0.0)
    assert file.keyring().first == "b"


def test_a_file_that_has_become_bad_changes_nothing_and_is_told_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(payload_keys, "LOOK", 0.0)
    file = KeyFile(path)
    path.write_text("a half")
    with caplog.at_level(logging.WARNING):
        assert [file.keyring().first for _ in range(3)] == ["a"] * 3
    (record,) = caplog.records
    assert "the payload keys stay as they were" in record.message
    path.unlink()
    assert file.keyring().first == "a"
    new_keys(path, "c")
    assert file.keyring().first == "c"


def test_one_file_is_read_once_in_a_process(path: Path) -> None:
    assert key_file(str(path)) is key_file(str(path))
