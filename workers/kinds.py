"""What a manifest names by its kind: ours, or what an installed package brings along."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import msgspec

from lmaas.broker_config.errors import ModelDamaged
from lmaas.workers.repository import MANIFEST, ModelVersion


def made(
    part: str, ours: Mapping[str, str], group: str, version: ModelVersion, how: dict[str, Any]
) -> Any:
    """What the kind of `how`, the manifest's `part`, makes of the version and of `how`.

    `ours` has a `module:name` for each kind; `group` is of the entry points of others, which cannot
    take the place of one of ours. Raises ModelDamaged.
    """
    kind = str(how.get("kind"))
    point = EntryPoint(kind, ours[kind], group) if kind in ours else _installed(kind, group)
    if point is None:
        raise ModelDamaged(
            f"{version.path}: no {part} {kind!r} here; upgrade LMaaS, or install the package that "
            f"has it (entry points {group!r})"
        )
    try:
        return point.load()(version, how)
    except (msgspec.ValidationError, ImportError, AttributeError) as error:
        raise ModelDamaged(f"{version.file(MANIFEST)}: {part}: {error}") from error


def _installed(kind: str, group: str) -> EntryPoint | None:
    return next((point for point in entry_points(group=group) if point.name == kind), None)
