"""ONNX Runtime is never loaded with its telemetry on, unless the user wants that."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
VARIABLE = "ORT_DISABLE_TELEMETRY"
#: Prints the variable at the moment at which ONNX Runtime is looked for, and at the end.
PROGRAM = """
import importlib, os, sys

class Watch:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "onnxruntime":
            print("first import:", os.environ.get("ORT_DISABLE_TELEMETRY"))

sys.meta_path.insert(0, Watch)
importlib.import_module(sys.argv[1])
assert "onnxruntime" in sys.modules
print("afterwards:", os.environ["ORT_DISABLE_TELEMETRY"])
"""


def lines(module: str, **environment: str) -> list[str]:
    clean = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, module],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "module",
    [
        "lmaas.workers.runtime",
        "lmaas.workers.worker",
        "lmaas.workers.isolated.child",
        "lmaas.workers.pool",
        "lmaas.training.export",
    ],
)
def test_it_is_off_before_the_first_import(module: str) -> None:
    if module.startswith("lmaas.training") and importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not there for this Python")
    assert lines(module) == ["first import: 1", "afterwards: 1"]


def test_the_users_own_value_stands() -> None:
    assert lines("lmaas.workers.runtime", **{VARIABLE: "0"}) == ["first import: 0", "afterwards: 0"]


def imports(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=aliases):
                yield from (alias.name for alias in aliases)
            case ast.ImportFrom(module=str(module), level=0):
                yield module


def test_one_module_imports_it_first() -> None:
    folders = ("broker_config", "producer", "workers", "training", "lmaas", "benchmarks", "tests")
    found = [
        str(path.relative_to(ROOT))
        for folder in (*folders, "examples")
        for path in (ROOT / folder).rglob("*.py")
        if any(name.partition(".")[0] == "onnxruntime" for name in imports(path.read_text()))
    ]
    # The first takes tools out of it, once the second has imported it.
    assert sorted(found) == ["training/quantizing.py", "workers/ort.py"]


def test_images_have_it_off() -> None:
    assert f"{VARIABLE}=1" in (ROOT / "Dockerfile").read_text()
