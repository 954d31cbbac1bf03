from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from lmaas.cli.models_sign import unwritable


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "make room there"),
        (errno.EDQUOT, "make room there"),
        (errno.EROFS, "copy the version into your own folder first (`lmaas models import FOLDER`)"),
        (
            errno.EACCES,
            "copy the version into your own folder first (`lmaas models import FOLDER`)",
        ),
    ],
)
def test_who_cannot_change_a_version_is_told_what_helps(number: int, advice: str) -> None:
    error = OSError(number, os.strerror(number))
    told = str(unwritable(Path("m/1"), error, "lmaas models import FOLDER"))
    assert told.startswith(f"m/1: {os.strerror(number)}; ")
    assert told.endswith(advice)
