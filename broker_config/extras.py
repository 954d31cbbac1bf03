"""What to do about an optional package that is missing: it depends on how LMaaS was installed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Final

import msgspec

#: Package -> the extra of ours that brings it.
EXTRAS: Final = {
    "aiohttp": "worker",
    "aiosqlite": "gateway",
    "alembic": "gateway",
    "asyncpg": "postgresql",
    "cryptography": "security",
    "jmespath": "gateway",
    "sqlalchemy": "gateway",
    "numpy": "worker",
    "onnxruntime": "worker",
    "openpyxl": "files",
    "pyarrow": "files",
    "PIL": "images",
    "soundfile": "audio",
    "soxr": "audio",
    "huggingface_hub": "importing",
    "keras": "training",
    "matplotlib": "bench",
    "onnx": "importing",
    "safetensors": "training",
    "tensorflow": "training",
    "tf2onnx": "training",
    "tokenizers": "tokens",
}
#: What there is no package of for newer Pythons yet, nor a use without TensorFlow.
OLDER_PYTHONS: Final = frozenset({"keras", "tensorflow", "tf2onnx"})
NEWEST_PYTHON: Final = (3, 13)


class _Origin(msgspec.Struct):
    """`direct_url.json`: where a distribution that is not from an index came from (PEP 610)."""

    url: str
    vcs_info: dict[str, str] = {}


def lacking(*packages: str) -> str | None:
    """Which of our optional packages is missing and what to do; None when all are there."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            return missing(package)
    return None


def missing(package: str) -> str:
    """That this optional package is missing, and what to do."""
    if package in OLDER_PYTHONS and sys.version_info[:2] > NEWEST_PYTHON:
        mine, newest = ("{}.{}".format(*python) for python in (sys.version_info, NEWEST_PYTHON))
        return f"there is no TensorFlow for Python {mine} yet: train with Python 3.11 to {newest}"
    return f"{package} is missing: {command(EXTRAS[package])}"


def command(extra: str) -> str:
    """What installs an extra of ours here."""
    root = Path(__file__).resolve().parents[1]
    if (root / "Makefile").is_file() and (root / "scripts" / "setup").is_file():
        if Path(sys.prefix).resolve() == root / ".venv":
            return f"run `make setup` in {root}"
        return f"pip install -e '{root}[{extra}]'"
    if origin := _origin():
        return f"pip install 'lmaas[{extra}] @ {origin}'"
    return f"pip install 'lmaas[{extra}]', from where you got lmaas"


def _origin() -> str | None:
    """The file, folder or repository that was installed; None when it was found by its name."""
    import importlib.metadata  # 40 ms, which nobody has to wait for who lacks nothing

    try:
        text = importlib.metadata.distribution("lmaas").read_text("direct_url.json")
        origin = msgspec.json.decode(text or "", type=_Origin)
    except (importlib.metadata.PackageNotFoundError, msgspec.DecodeError):
        return None
    kind = origin.vcs_info.get("vcs")
    return f"{kind}+{origin.url}" if kind else origin.url
