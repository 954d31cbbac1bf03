"""No circle of imports: between modules, and between the rooms (packages and modules) of a package.

An import inside a function counts as one at the top; one for type checkers only does not.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOPS = ("broker_config", "service", "producer", "workers", "training", "lmaas")

#: Module -> those that it imports.
Graph = Mapping[str, set[str]]


def modules() -> dict[str, Path]:
    """Name -> file, of every module of ours."""
    files = [path for top in TOPS for path in (ROOT / top).rglob("*.py")]  # through no links
    return {name_of(path.relative_to(ROOT)): path for path in files}


def name_of(path: Path) -> str:
    parts = [part for part in path.with_suffix("").parts if part != "__init__"]
    return ".".join(parts if parts[0] == "lmaas" else ["lmaas", *parts])


def imported(node: ast.AST, names: set[str]) -> Iterator[str]:
    """Names of ours that are imported below a node, wherever that is."""
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
            below = node.orelse
        case ast.Import(names=aliases):
            yield from (alias.name for alias in aliases if alias.name in names)
            return
        case ast.ImportFrom(module=str(module), names=aliases):
            inner = {f"{module}.{alias.name}" for alias in aliases}
            yield from inner & names or {module} & names
            return
        case _:
            below = list(ast.iter_child_nodes(node))
    for child in below:
        yield from imported(child, names)


@functools.cache
def graph() -> dict[str, set[str]]:
    found = modules()
    return {
        name: set(imported(ast.parse(path.read_text(encoding="utf-8")), set(found)))
        for name, path in found.items()
    }


def room(package: str, module: str) -> str | None:
    """The part of a package that a module is in; None of one that is elsewhere."""
    if module == package:
        return f"{package}.__init__"
    if not module.startswith(f"{package}."):
        return None
    return ".".join(module.split(".")[: package.count(".") + 2])


def rooms(package: str, modules: Graph) -> dict[str, set[str]]:
    """Room of a package -> the other ones that it imports from."""
    found: dict[str, set[str]] = {}
    for name, others in modules.items():
        if (own := room(package, name)) is not None:
            theirs = {each for other in others if (each := room(package, other)) is not None}
            found.setdefault(own, set()).update(theirs - {own})
    return found


def circle(graph: Graph) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


PACKAGES = sorted({name.rpartition(".")[0] for name in modules()} - {""})


def test_all_of_it_is_looked_at() -> None:
    found = graph()
    assert {"lmaas.producer.gateway.jobs", "lmaas.workers.preprocess", "lmaas"} <= set(PACKAGES)
    assert "lmaas.producer.gateway.jobs.collecting" in found["lmaas.producer.gateway.app"]


def test_a_circle_is_found() -> None:
    source = "if typing.TYPE_CHECKING:\n    import a.x\ndef f():\n    import a.d\nfrom a.c import y"
    assert set(imported(ast.parse(source), {"a.x", "a.c", "a.d"})) == {"a.c", "a.d"}
    through_rooms = {"a.b.c": {"a.d.e"}, "a.d.f": {"a.b.g"}, "a.d.e": set(), "a.b.g": set()}
    assert circle(through_rooms) == []
    assert set(circle(rooms("a", through_rooms))) == {"a.b", "a.d"}


def test_modules_have_no_circle() -> None:
    assert circle(graph()) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_have_no_circle(package: str) -> None:
    assert circle(rooms(package, graph())) == []


def test_imports_point_one_way() -> None:
    """As docs/architecture.md says it. The public names, in `lmaas`, are for others than us."""
    allowed = {"broker_config": 0, "service": 1, "producer": 2, "workers": 2, "training": 3}
    for name, others in graph().items():
        own = name.split(".")[1] if "." in name else ""
        for other in others:
            assert own not in allowed or other != "lmaas", f"{name} imports the public names"
            theirs = other.split(".")[1] if "." in other else ""
            if own in allowed and theirs != own:
                assert allowed.get(theirs, 9) < allowed[own], f"{name} imports {other}"
