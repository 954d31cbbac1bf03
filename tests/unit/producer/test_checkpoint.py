"""Where an output may appear: in the place of a file, and of nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmaas.broker_config.errors import DataError
from lmaas.producer.checkpoint import PartialFile, State
from lmaas.producer.tables import Place


def test_a_pipe_keeps_its_place(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    with pytest.raises(DataError, match="write to - and redirect"):
        PartialFile(Place.of(str(pipe)))
    assert pipe.is_fifo()


def test_a_link_stays_and_what_it_names_is_written(tmp_path: Path) -> None:
    link, real = tmp_path / "link.csv", tmp_path / "real.csv"
    link.symlink_to(real)
    with PartialFile(Place.of(str(link))) as file:
        file.start(b"header\n")
        file.finish(lambda partial: partial)
    assert link.is_symlink()
    assert real.read_bytes() == b"header\n"


def test_links_that_somebody_laid_beside_it_are_not_followed(tmp_path: Path) -> None:
    """Who may write to the folder would have the rows, and overwrite files, by them."""
    out, theirs = tmp_path / "out.csv", tmp_path / "theirs"
    partial = tmp_path / "out.csv.partial"
    partial.symlink_to(theirs)
    with pytest.raises(DataError, match=r"out\.csv\.partial is a link; delete it"):
        PartialFile(Place.of(str(out)))
    assert not theirs.exists()
    partial.unlink()

    (tmp_path / "out.csv.partial.json.new").symlink_to(theirs)
    with PartialFile(Place.of(str(out))) as file:
        file.start(b"header\n")
        file.checkpoint(State(fingerprint={}))
        file.finish(lambda partial: partial)
    assert out.read_bytes() == b"header\n"
    assert sorted(tmp_path.iterdir()) == [out]
