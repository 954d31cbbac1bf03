"""`lmaas keys`: the file of payload keys, as it is changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from lmaas.cli.keys import command

#: The number of a user that is neither who runs the tests nor root.
SOMEBODY = 54_321


def keys(*arguments: str) -> list[str]:
    """The lines that the command prints."""
    ended = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.stdout.split()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "payload.keys"
    keys("new", str(path), "--id", "a")
    return path


def test_keys_are_rotated(path: Path) -> None:
    assert keys("new", str(path), "--id", "b") == ["b"]
    keys("first", str(path), "b")
    assert keys("list", str(path)) == ["b", "a"]
    keys("remove", str(path), "a")
    assert keys("list", str(path)) == ["b"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_stays_and_the_file_that_it_names_is_changed(path: Path) -> None:
    link = path.with_name("link.keys")
    link.symlink_to(path)
    keys("new", str(link), "--id", "b")
    assert link.is_symlink()
    assert keys("list", str(path)) == ["a", "b"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes files of others")
def test_the_owner_stays(path: Path) -> None:
    os.chown(path, SOMEBODY, SOMEBODY)
    keys("new", str(path), "--id", "b")
    assert (path.stat().st_uid, path.stat().st_gid) == (SOMEBODY, SOMEBODY)


def test_a_mark_at_the_beginning_as_editors_write_it_is_no_part_of_an_id(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    keys("new", str(path), "--id", "b")
    keys("first", str(path), "a")
    assert keys("list", str(path)) == ["a", "b"]
