"""The public interface is what `__all__` says."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import inspect
import subprocess
import sys
import typing
from collections.abc import AsyncGenerator, Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

import lmaas

#: Methods that users call although their names begin with an underscore.
CALLED = {"__init__", "__enter__", "__aenter__", "__call__", "__iter__", "__aiter__", "__next__"}


def test_all_is_sorted_and_is_the_public_namespace() -> None:
    for name in lmaas.__all__:  # some are imported when they are asked for
        assert getattr(lmaas, name)
    public = [
        name
        for name, value in vars(lmaas).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    ]
    assert lmaas.__all__ == sorted(public)


def test_every_error_is_public_and_says_what_it_is() -> None:
    errors = [lmaas.LmaasError, *_below(lmaas.LmaasError)]
    ours = [error for error in errors if error.__module__ == "lmaas.broker_config.errors"]
    assert {error.__name__ for error in ours} <= set(lmaas.__all__)
    for error in ours:
        assert error.__doc__


def _below(error: type[BaseException]) -> list[type[BaseException]]:
    return [found for child in error.__subclasses__() for found in (child, *_below(child))]


def test_the_version_is_that_of_the_distribution() -> None:
    assert lmaas.__version__ == importlib.metadata.version("lmaas")
    shown = subprocess.run(
        [sys.executable, "-m", "lmaas", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=180,
    )
    assert shown.stdout == f"lmaas, version {lmaas.__version__}\n"


def test_type_checkers_are_told_that_there_are_types() -> None:
    assert importlib.resources.files("lmaas").joinpath("py.typed").is_file()


@pytest.mark.parametrize("name", [n for n in lmaas.__all__ if isinstance(getattr(lmaas, n), type)])
def test_every_type_in_a_public_signature_is_public(name: str) -> None:
    exported = {vars(lmaas)[name] for name in lmaas.__all__}
    assert [
        f"{where}: {kind.__qualname__}"
        for where, kind in _types(vars(lmaas)[name])
        if kind.__module__.partition(".")[0] == "lmaas" and kind not in exported
    ] == []


def test_a_type_that_is_not_public_would_be_found() -> None:
    class Hidden:
        pass

    class Shown:
        field: list[Hidden | None]

        def __init__(self, given: Hidden) -> None: ...

        def method(self) -> AsyncGenerator[tuple[Hidden, int], None]:
            raise NotImplementedError

        @property
        def value(self) -> Callable[[Hidden], str]:
            raise NotImplementedError

    found = [where for where, kind in _types(Shown, locals()) if kind is Hidden]
    assert found == ["Shown.field", "Shown.__init__", "Shown.method", "Shown.value"]


def _types(shown: type, names: dict[str, Any] | None = None) -> Iterator[tuple[str, type]]:
    """Where the public attributes, methods and properties of a class name which types."""
    for of in shown.__mro__:
        for attribute, hint in typing.get_type_hints(of, localns=names).items():
            if not attribute.startswith("_"):
                yield from ((f"{of.__qualname__.split('.')[-1]}.{attribute}", t) for t in _in(hint))
        for attribute, value in vars(of).items():
            if attribute.startswith("_") and attribute not in CALLED:
                continue
            function = value.fget if isinstance(value, property) else value
            function = getattr(function, "__func__", function)  # of a class method
            if inspect.isfunction(function):
                where = f"{of.__qualname__.split('.')[-1]}.{attribute}"
                for hint in typing.get_type_hints(function, localns=names).values():
                    yield from ((where, kind) for kind in _in(hint))


def _in(hint: Any) -> Iterator[type]:
    """The classes that a type is made of."""
    if isinstance(hint, list):  # the arguments of a Callable
        for part in hint:
            yield from _in(part)
    if isinstance(hint, type):
        yield hint
    for part in typing.get_args(hint):
        yield from _in(part)
