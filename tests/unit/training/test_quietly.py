from __future__ import annotations

import logging
import os

import pytest

from lmaas.training import quietly


def test_what_c_code_writes_is_not_seen(capfd: pytest.CaptureFixture[str]) -> None:
    with quietly():
        os.write(2, b"chatter")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_what_it_warns_of_later_is_not_seen_either(caplog: pytest.LogCaptureFixture) -> None:
    with quietly():
        pass
    log = logging.getLogger("tensorflow")
    log.warning("tracing is expensive")
    log.error("out of memory")
    assert caplog.messages == ["out of memory"]


def test_an_error_shows_what_was_written(capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        os.write(2, b"the reason")
        raise ImportError

    with pytest.raises(ImportError), quietly():
        fails()
    assert capfd.readouterr().err == "the reason"
