"""The model repository: `models/NAME/VERSION/`, read and verified.

A version is a folder whose name is a positive whole number. It holds `manifest.json` and the
files that the manifest lists, each with its sha256; `model.onnx` is always one of them.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from lmaas.broker_config.errors import ModelDamaged, ModelNotFound
from lmaas.broker_config.topology import is_model_name

MANIFEST = "manifest.json"
MODEL = "model.onnx"
_VERSION = re.compile("[1-9][0-9]{0,8}")


class Preprocessing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an item becomes the model's input."""

    #: Which preprocessor: "words" is `lmaas.workers.preprocess.text.WordTokenizer`.
    kind: str
    #: The file in the version's folder that the preprocessor reads (a vocabulary).
    file: str
    #: Longer texts are cut to this many tokens.
    max_tokens: int


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Service time of a pack on the machine that exported: fixed + per_byte * bytes of text."""

    #: Seconds a pack, whatever is in it.
    fixed_seconds: float
    #: Seconds a byte of UTF-8 text.
    seconds_per_byte: float


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model version is, and what was measured of it."""

    name: str
    version: str
    #: Labels in the order of the model's outputs.
    labels: list[str]
    preprocessing: Preprocessing
    #: "gap" or "ngram": see `lmaas.training.architectures`.
    architecture: str
    #: The data set's name, its source's sha256, and how many examples each split has.
    dataset: dict[str, Any]
    #: Test accuracy, per-class precision and recall, confusion matrix, calibration error.
    metrics: dict[str, Any]
    calibration: Calibration
    #: Version of this code that exported the model, and when (RFC 3339).
    code_version: str
    created: str
    #: sha256 of every other file in the folder, by name.
    files: dict[str, str]
    #: Free: training's parameters, for the record.
    training: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One verified version on disk."""

    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        return self.path / name


class Repository:
    """Read access to a folder of models.

    Nothing is cached: a version that is copied in while a worker runs is found at the next look.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def models(self) -> list[str]:
        """Names of the models that have at least one version, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(p.name for p in self.root.iterdir() if p.is_dir() and _versions(p))

    def versions(self, model: str) -> list[str]:
        """Versions of a model, oldest first; empty when there is no such model."""
        # The name may come from the network: it never leads out of the root.
        return _versions(self.root / model) if is_model_name(model) else []

    def find(self, model: str, version: str | None = None) -> ModelVersion:
        """The asked version, or the newest, with every file verified.

        Raises ModelNotFound or ModelDamaged.
        """
        versions = self.versions(model)
        if not versions:
            known = ", ".join(self.models()) or "none"
            raise ModelNotFound(f"no model {model!r} in {self.root} (models there: {known})")
        if version is not None and version not in versions:
            raise ModelNotFound(
                f"model {model!r} has no version {version!r} in {self.root} "
                f"(versions there: {', '.join(versions)})"
            )
        found = read_version(self.root / model / (version or versions[-1]))
        verify(found)
        return found

    def manifest(self, model: str, version: str | None = None) -> Manifest:
        """The manifest alone, without reading the files that it lists."""
        versions = self.versions(model)
        if not versions or (version is not None and version not in versions):
            raise ModelNotFound(f"no model {model!r} version {version or '(any)'} in {self.root}")
        return read_version(self.root / model / (version or versions[-1])).manifest


def read_version(path: Path) -> ModelVersion:
    """The version in a folder, not verified. Raises ModelDamaged when it has no good manifest."""
    try:
        manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise ModelDamaged(f"{path / MANIFEST}: {error}; export or copy it again") from error
    return ModelVersion(path, manifest)


def verify(version: ModelVersion) -> None:
    """Compare every file with its sha256; raises ModelDamaged naming the file."""
    for name, expected in version.manifest.files.items():
        path = version.file(name)
        try:
            with path.open("rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ModelDamaged(f"{path}: {error.strerror}; copy the version again") from error
        if actual != expected:
            raise ModelDamaged(
                f"{path}: sha256 is {actual[:12]}…, the manifest says {expected[:12]}…; "
                "copy or export the version again"
            )
    for name in (MODEL, version.manifest.preprocessing.file):
        if name not in version.manifest.files:
            raise ModelDamaged(f"{version.path / MANIFEST}: does not list {name}")


def _versions(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    names = (p.name for p in folder.iterdir() if _VERSION.fullmatch(p.name) and p.is_dir())
    return sorted(names, key=int)
