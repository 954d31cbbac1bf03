from __future__ import annotations

import importlib.metadata
import sys

import pytest
from packaging.requirements import Requirement

from lmaas.broker_config import extras
from lmaas.broker_config.errors import TrainingError
from lmaas.cli import group, train


def test_a_python_without_tensorflow_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "lacking", lambda *_: "tensorflow is missing: install it")
    with pytest.raises(TrainingError, match="tensorflow is missing: install it"):
        group(["train", "x"], standalone_mode=False)
    monkeypatch.setattr(train, "WITHOUT_TENSORFLOW", sys.version_info[:2])
    here, before = (f"{sys.version_info[0]}.{sys.version_info[1] - n}" for n in (0, 1))
    with pytest.raises(TrainingError, match=f"no TensorFlow for Python {here} yet.*{before}"):
        group(["train", "x"], standalone_mode=False)


def test_it_is_the_one_for_which_we_ask_for_none() -> None:
    asked = [Requirement(each) for each in importlib.metadata.requires("lmaas") or ()]
    markers = [each.marker for each in asked if each.name == "tensorflow"]
    major, minor = train.WITHOUT_TENSORFLOW
    versions = f"{major}.{minor - 1}", f"{major}.{minor}"
    assert [
        any(one and one.evaluate({"python_version": each, "extra": "training"}) for one in markers)
        for each in versions
    ] == [True, False]
