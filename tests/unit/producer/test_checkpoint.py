"""Where an output may appear: in the place of a file, and of nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmaas.broker_config.errors import DataError
from lmaas.producer.checkpoint import PartialFile
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
