"""An encoder with a classifier on Banking77, with numbers of 8 bits: what they cost, and bring."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from lmaas.training.datasets.loading import load_dataset
from lmaas.training.quantizing import Quantized
from lmaas.training.recipe import Quantize, Recipe
from lmaas.training.train import train
from lmaas.workers.model_version import read_manifest

pytestmark = pytest.mark.models


def test_int8_of_an_encoder(
    datasets: Path, minilm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    banking = datasets / "banking77"
    if not (banking / "train.csv").is_file():
        pytest.skip("banking77/ is not in LMAAS_DATASETS")
    path = train(
        load_dataset(banking / "train.csv", test=banking / "test.csv"),
        "encoder",
        out_root=tmp_path,
        name="intents",
        recipe=Recipe(encoder=str(minilm)),
        quantize=Quantize(kind="int8", force=True),
    )
    found = msgspec.convert(read_manifest(path).training["quantized"], Quantized)
    with capsys.disabled():
        sys.stdout.write(f"\nBanking77: {found}\n")
    assert found.lost <= 0.005
    assert found.faster >= 1.5
