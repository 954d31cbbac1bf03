"""The public interface is what `__all__` says."""

from __future__ import annotations

from types import ModuleType

import lmaas


def test_all_is_sorted_and_is_the_public_namespace() -> None:
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
