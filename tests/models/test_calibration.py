"""What a temperature by validation data does for the test data: `docs/models.md`, Evaluation."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from lmaas.broker_config.folders import SHIPPED_MODELS
from lmaas.training import imdb
from lmaas.training.calibration import temperature
from lmaas.training.datasets.loading import load_dataset
from lmaas.training.evaluate import evaluate, uncalibrated
from lmaas.workers.heads import tempered
from lmaas.workers.repository import Repository
from lmaas.workers.runtime import Runtime

pytestmark = pytest.mark.models

DATA = Path(os.environ.get("LMAAS_DATASETS", "")) / imdb.ARCHIVE


@pytest.mark.skipif(not DATA.is_file(), reason=f"{imdb.ARCHIVE} is not in LMAAS_DATASETS")
def test_the_model_that_ships_on_imdb() -> None:
    """It has not learnt from the validation split, as that is cut in the same way every time."""
    dataset = load_dataset(DATA)
    version = Repository(SHIPPED_MODELS).find("sentiment")
    bare = {name: value for name, value in version.manifest.head.items() if name != "temperature"}
    raw = Runtime(replace(version, manifest=structs.replace(version.manifest, head=bare)))
    found = temperature(raw.scores(dataset.validation.items), dataset.validation.labels)
    assert found == pytest.approx(version.manifest.head.get("temperature", 1.0), abs=0.002)
    scores = raw.scores(dataset.test.items)
    before = uncalibrated(scores, dataset.test.labels)
    after = evaluate(tempered(scores, found), dataset.test.labels, dataset.labels)
    print(  # noqa: T201
        f"T {found:.3f}, log loss {before.log_loss:.4f}, then {after.log_loss:.4f}, calibration "
        f"error {before.calibration_error:.3f}, then {after.calibration_error:.3f}"
    )
    assert after.log_loss <= before.log_loss + 0.002, "the validation reviews are harder"
    assert after.calibration_error < 0.02
