"""A new version appears whole, whoever else makes one, and whatever became of those before."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from lmaas.training.versions import new_version

#: A process that is in the midst of a version.
UNFINISHED = """
import sys
from pathlib import Path
from lmaas.training.versions import new_version
with new_version("m", Path(sys.argv[1]), []) as (built, place):
    (built / "model.onnx").write_bytes(b"half")
    print(place.name, flush=True)
    sys.stdin.read()
"""


def made(root: Path) -> str:
    with new_version("m", root, []) as (built, place):
        (built / "x").write_bytes(b"x")
    return place.name


def test_nothing_is_left_of_a_version_whose_maker_was_killed(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", UNFINISHED, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stdout.readline() == b"1\n"
    assert [path.name[:5] for path in (tmp_path / "m").iterdir()] == [".new-"]
    process.kill()
    process.communicate()
    assert made(tmp_path) == "1"
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["1"]


def test_two_versions_at_a_time_get_two_numbers(tmp_path: Path) -> None:
    inside = threading.Event()
    numbers: list[str] = []

    def second() -> None:
        with new_version("m", tmp_path, []) as (built, place):
            inside.set()
            (built / "x").write_bytes(b"x")
        numbers.append(place.name)

    with new_version("m", tmp_path, []) as (_, place):
        thread = threading.Thread(target=second)
        thread.start()
        assert not inside.wait(0.2)
    thread.join()
    assert [place.name, *numbers] == ["1", "2"]
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["1", "2"]


def test_after_an_error_nothing_is_there(tmp_path: Path) -> None:
    try:
        with new_version("m", tmp_path, []) as (built, _):
            (built / "x").write_bytes(b"x")
            raise OSError
    except OSError:
        pass
    assert list((tmp_path / "m").iterdir()) == []
