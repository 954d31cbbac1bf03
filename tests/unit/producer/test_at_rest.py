"""What the gateway keeps: sealed files and values, each for its own place."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from lmaas.broker_config.errors import SealError
from lmaas.broker_config.sealing import line_of_new_key
from lmaas.broker_config.settings import Settings
from lmaas.producer.gateway.at_rest.frames import MARK, OVERHEAD
from lmaas.producer.gateway.at_rest.keeping import AtRest
from lmaas.producer.gateway.at_rest.streams import FRAME

NAME = "files/f"
KEY_A, KEY_B = line_of_new_key("a"), line_of_new_key("b")


def key_file(folder: Path, *lines: str) -> str:
    path = folder / f"{len(list(folder.iterdir()))}.keys"
    path.touch(0o600)
    path.write_text("".join(lines))
    return str(path)


@pytest.fixture
def at_rest(tmp_path_factory: pytest.TempPathFactory) -> AtRest:
    return with_keys(tmp_path_factory.mktemp("keys"), KEY_A)


def with_keys(folder: Path, *lines: str, accept_unsealed: bool = False) -> AtRest:
    keys = key_file(folder, *lines)
    return AtRest(Settings(payload_keys=keys, accept_unsealed=accept_unsealed))


def write(at_rest: AtRest, path: Path, content: bytes, piece: int = 100_000) -> None:
    with at_rest.create(path, NAME) as file:
        for start in range(0, len(content), piece):
            file.write(content[start : start + piece])
        assert file.tell() == len(content)


def broken(at_rest: AtRest, path: Path, name: str = NAME) -> str:
    """The code of the error."""
    with pytest.raises(SealError) as told, at_rest.open(path, name) as file:
        file.read()
    assert name in str(told.value)
    return told.value.code


@pytest.mark.parametrize("size", [0, 1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME])
def test_a_sealed_file_is_read_from_anywhere(tmp_path: Path, at_rest: AtRest, size: int) -> None:
    content, path = os.urandom(size), tmp_path / "f"
    write(at_rest, path, content)
    with at_rest.open(path, NAME) as file:
        assert file.read() == content
        assert file.seek(0, os.SEEK_END) == size
        for place in (size // 2, size - 1, 0, FRAME):
            file.seek(max(0, place))
            assert file.read(10) == content[max(0, place) : max(0, place) + 10]


def test_lines_of_a_sealed_file(tmp_path: Path, at_rest: AtRest) -> None:
    lines = [b"x" * number + b"\n" for number in range(1_500)]
    write(at_rest, tmp_path / "f", b"".join(lines))
    with at_rest.open(tmp_path / "f", NAME) as file:
        assert list(file) == lines


def test_frames_cannot_be_cut_moved_or_changed(tmp_path: Path, at_rest: AtRest) -> None:
    path, content = tmp_path / "f", bytes(3 * FRAME)
    write(at_rest, path, content)
    sealed, begin = path.read_bytes(), len(MARK) + 2
    frames = [
        sealed[start : start + FRAME + OVERHEAD]
        for start in range(begin, len(sealed), FRAME + OVERHEAD)
    ]
    assert len(frames) == 3
    one, two, three = frames
    for changed in (
        [one, two], [one, two, three[:-1]], [two, one, three], [one, one, three], [three], [],
        [one, two, three, three], [one, two, three, b"more"], [one, two[:-1] + b"?", three],
    ):  # fmt: skip
        path.write_bytes(sealed[:begin] + b"".join(changed))
        assert broken(at_rest, path) == "seal_broken", [len(frame) for frame in changed]
    path.write_bytes(sealed)
    assert broken(at_rest, path, "files/g") == "seal_broken"
    path.write_bytes(sealed[: begin - 1])
    assert broken(at_rest, path) == "seal_broken"


def test_what_was_not_written_to_its_end_is_not_read(tmp_path: Path, at_rest: AtRest) -> None:
    path = tmp_path / "f"
    with contextlib.suppress(ZeroDivisionError), at_rest.create(path, NAME) as file:
        file.write(bytes(FRAME + 1))
        raise ZeroDivisionError
    assert broken(at_rest, path) == "seal_broken"


def test_keys_that_are_not_there(tmp_path: Path, at_rest: AtRest) -> None:
    path = tmp_path / "f"
    write(at_rest, path, b"content")
    assert broken(with_keys(tmp_path, KEY_B), path) == "key_unknown"
    assert broken(with_keys(tmp_path, line_of_new_key("a")), path) == "seal_broken"
    assert broken(AtRest(), path) == "key_missing"
    both = with_keys(tmp_path, KEY_B, KEY_A)
    with both.open(path, NAME) as file:
        assert file.read() == b"content"


def test_files_from_before(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write(AtRest(), path, b"content")
    assert path.read_bytes() == b"content"
    assert broken(with_keys(tmp_path, KEY_A), path) == "not_sealed"
    with with_keys(tmp_path, KEY_A, accept_unsealed=True).open(path, NAME) as file:
        assert file.read() == b"content"


def test_values_are_for_their_row_and_column(tmp_path: Path, at_rest: AtRest) -> None:
    values = at_rest.values
    sealed, text = values.sealed(b"[]", "t.c", "1"), values.sealed_text("Ω\udc80", "t.c", "1")
    assert b"[]" not in sealed
    assert text is not None
    assert (values.opened(sealed, "t.c", "1"), values.opened_text(text, "t.c", "1")) == (
        b"[]",
        "Ω\udc80",
    )
    for column, row in (("t.d", "1"), ("t.c", "2")):
        with pytest.raises(SealError, match=column):
            values.opened(sealed, column, row)
    with pytest.raises(SealError) as told:
        values.opened_text(text + "?", "t.c", "1")
    assert told.value.code == "seal_broken"
    for others, code in ((AtRest(), "key_missing"), (with_keys(tmp_path, KEY_B), "key_unknown")):
        with pytest.raises(SealError) as told:
            others.values.opened(sealed, "t.c", "1")
        assert told.value.code == code
    with pytest.raises(SealError) as told:
        values.opened_text("plain", "t.c", "1")
    assert told.value.code == "not_sealed"
    before = with_keys(tmp_path, KEY_A, accept_unsealed=True).values
    assert (before.opened(b"plain", "t.c", "1"), before.opened_text("é", "t.c", "1")) == (
        b"plain",
        "é",
    )
    assert (AtRest().values.sealed(b"x", "t.c", "1"), values.sealed_text(None, "t.c", "1")) == (
        b"x",
        None,
    )


def test_names_are_found_again_when_keys_are_rotated(tmp_path: Path) -> None:
    (old,) = with_keys(tmp_path, KEY_A).values.names("order-1", "t.c")
    new, also = with_keys(tmp_path, KEY_B, KEY_A).values.names("order-1", "t.c")
    assert (also, new != old, "order" in old) == (old, True, False)
    assert with_keys(tmp_path, KEY_A).values.names("order-1", "t.d") != [old]
    assert AtRest().values.names("order-1", "t.c") == ["order-1"]
    before = with_keys(tmp_path, KEY_A, accept_unsealed=True).values.names("order-1", "t.c")
    assert before == [old, "order-1"]
