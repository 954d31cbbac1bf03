"""What a part of the package imports is declared in pyproject.toml, in the base or its extras."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from lmaas.broker_config.upstream import CHANGES

ROOT = Path(__file__).parents[2]
#: Room -> the extras without which parts of it cannot be imported. The base is everybody's.
ROOMS = {
    "broker_config": ["tracing", "security"],
    "producer": ["files", "gateway", "postgresql"],
    "service": ["worker"],
    "workers": ["worker", "tokens", "images", "audio", "security"],
    "training": ["training"],
    "lmaas": ["worker", "gateway", "bench", "security"],
}


#: What imports a module of ours is there then.
HOSTS = {("pytest_plugin.py", "pytest")}


@functools.cache
def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def declared(*extras: str) -> dict[str, SpecifierSet]:
    """Name of a distribution -> its versions, in the base and these extras."""
    lines = list(project()["dependencies"])
    for extra in extras:
        lines += project()["optional-dependencies"][extra]
    found = {}
    for requirement in map(Requirement, lines):
        if requirement.name == "lmaas":
            found |= declared(*requirement.extras)
        elif requirement.marker is None or requirement.marker.evaluate():
            found[canonicalize_name(requirement.name)] = requirement.specifier
    return found


def imported(source: str) -> set[str]:
    """Top-level names that Python source imports from others, wherever it does."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=aliases):
                names |= {alias.name.partition(".")[0] for alias in aliases}
            case ast.ImportFrom(module=str(module), level=0):
                names.add(module.partition(".")[0])
    # Type checkers bring `_typeshed` along; it is never imported when the code runs.
    return names - sys.stdlib_module_names - {"lmaas", "_typeshed"}


def sources(room: str) -> Iterator[Path]:
    return (ROOT / room).rglob("*.py")  # which goes through no links


@functools.cache
def distributions() -> dict[str, set[str]]:
    """Top-level name -> the distributions that bring a part of it."""
    found = importlib.metadata.packages_distributions()
    return {name: set(map(canonicalize_name, brought)) for name, brought in found.items()}


@pytest.mark.parametrize("room", ROOMS)
def test_what_is_imported_is_declared(room: str) -> None:
    known = set(declared(*ROOMS[room]))
    found = {path: imported(path.read_text(encoding="utf-8")) for path in sources(room)}
    assert any(found.values()), "the search finds nothing any more"
    assert [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, names in found.items()
        for name in sorted(names)
        if not distributions()[name] & known and (path.name, name) not in HOSTS
    ] == []


def test_an_import_is_found_wherever_it_is() -> None:
    source = "import os\ndef f():\n    from a.b import c\n    import d.e\nfrom lmaas import Client"
    assert imported(source) == {"a", "d"}


def test_what_is_declared_is_installed_and_fits() -> None:
    # The package for GPUs is in the place of another one.
    every = declared(*(extra for extra in project()["optional-dependencies"] if extra != "gpu"))
    assert [
        name for name, allowed in every.items()
        if importlib.metadata.version(name) not in allowed
    ] == []  # fmt: skip


def test_libraries_are_changed_in_the_declared_versions_only() -> None:
    allowed = declared()
    for change in CHANGES:
        assert allowed[change.distribution] == SpecifierSet(change.versions)
        assert change.reason


def _with_their_own(names: set[str]) -> set[str]:
    """Distributions and all that they need, without their extras."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        if (name := waiting.pop()) in found:
            continue
        found.add(name)
        waiting += [
            canonicalize_name(requirement.name)
            for requirement in map(Requirement, importlib.metadata.requires(name) or ())
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        ]
    return found


#: Imports what the second argument says on a machine that lacks what the first one names.
WITHOUT = """
import json, sys

class Lacking:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name in missing else self.finder.find_spec(name, path, target)

missing = set(json.loads(sys.argv[1]))
sys.meta_path[:] = map(Lacking, sys.meta_path)
exec(sys.argv[2])
"""


def without(missing: set[str], code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, json.dumps(sorted(missing)), code]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)


@pytest.mark.parametrize(
    "code", ["from lmaas import *", "import lmaas.testing", "import lmaas.cli.submit"]
)
def test_the_base_install_is_enough_for_the_client(code: str) -> None:
    base = _with_their_own(set(declared()))
    others = {
        name for name, brought in distributions().items() if not brought & base and name != "lmaas"
    }
    assert {"numpy", "onnxruntime", "pyarrow"} <= others
    done = without(others, code)
    assert done.returncode == 0, done.stderr
    assert "aio_pika" in without(others | {"aio_pika"}, code).stderr
