"""What a manifest names by its kind: ours, or what an installed package brings along."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from lmaas.broker_config import extras
from lmaas.broker_config.errors import ModelDamaged
from lmaas.workers.model_version import MANIFEST, ModelVersion


def made(
    part: str, ours: Mapping[str, str], group: str, version: ModelVersion, how: dict[str, Any]
) -> Any:
    """What the kind of `how`, the manifest's `part`, makes of the version and of `how`.

    `ours` has a `module:name` for each kind; `group` is of the entry points of others, which cannot
    take the place of one of ours. Raises ModelDamaged.
    """
    kind = str(how.get("kind"))
    load = _ours(ours[kind]) if kind in ours else _installed(kind, group)
    if load is None:
        raise ModelDamaged(
            f"{version.path}: no {part} {kind!r} here; upgrade LMaaS, or install the package that "
            f"has it (entry points {group!r})"
        )
    try:
        return load()(version, how)
    except ModuleNotFoundError as error:
        told = extras.missing(error.name) if error.name in extras.EXTRAS else str(error)
        raise ModelDamaged(f"{version.path}: {part} {kind!r}: {told}") from error
    except (msgspec.ValidationError, ImportError, AttributeError) as error:
        raise ModelDamaged(f"{version.file(MANIFEST)}: {part}: {error}") from error


#: Loads what makes one.
Load = Callable[[], Any]


def _ours(place: str) -> Load:
    module, _, name = place.partition(":")
    return lambda: getattr(importlib.import_module(module), name)


def _installed(kind: str, group: str) -> Load | None:
    from importlib.metadata import entry_points  # it takes 40 ms, which our own kinds need not wait

    return next((point.load for point in entry_points(group=group) if point.name == kind), None)
