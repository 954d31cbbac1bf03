"""How many cores this process may use: those it may be scheduled on, and what its cgroups leave it.

A container that is given half a core still sees every core of the host; its share is a quota of
its cgroup, or of one above it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

_PROC: Final = Path("/proc/self")


def usable(proc: Path = _PROC) -> int:
    """At least 1; a part of a core counts as one. `proc` is this process's folder in /proc."""
    scheduled = len(os.sched_getaffinity(0))
    return max(1, min(scheduled, math.ceil(quota(proc) or scheduled)))


def quota(proc: Path = _PROC) -> float | None:
    """The smallest quota, in cores, of the process's cgroups and those above; None without any."""
    try:
        cgroup = (proc / "cgroup").read_text(errors="surrogateescape")
        mountinfo = (proc / "mountinfo").read_text(errors="surrogateescape")
    except OSError:  # no Linux, or no /proc
        return None
    quotas = (_quota(folder) for folder in cgroups(cgroup, mountinfo))
    return min((one for one in quotas if one is not None), default=None)


def cgroups(cgroup: str, mountinfo: str) -> Iterator[Path]:
    """The folders of the cgroups that limit processor time, each before the one above it. Pure.

    `cgroup` and `mountinfo` are the files of that name in /proc/PID (cgroups(7), proc(5)).
    """
    groups = {}
    for line in cgroup.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" or "cpu" in controllers.split(","):
            groups["cgroup2" if number == "0" else "cgroup"] = path
    for line in mountinfo.splitlines():
        where, _, what = line.partition(" - ")
        root, point = map(_unescaped, where.split(" ")[3:5])
        kind, _, options = what.split(" ")[:3]
        if kind in groups and (kind == "cgroup2" or "cpu" in options.split(",")):
            yield from _upwards(PurePosixPath(groups[kind]), PurePosixPath(root), Path(point))


def _upwards(group: PurePosixPath, root: PurePosixPath, point: Path) -> Iterator[Path]:
    """From a cgroup up to what is mounted; only that where the group is not below it."""
    inside = group.is_relative_to(root) and ".." not in group.parts
    below = group.relative_to(root) if inside else PurePosixPath()
    folder = point / below
    yield folder
    yield from list(folder.parents)[: len(below.parts)]


def _unescaped(name: str) -> str:
    """Blanks and the like are octal numbers in mountinfo."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), name)


def _quota(folder: Path) -> float | None:
    """The cores that this cgroup itself allows, in version 2 or 1; None when it has no limit."""
    try:
        if (both := folder / "cpu.max").exists():
            allowed, period = both.read_text().split()
        else:
            allowed = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        # "max" and -1 are no limits.
        return int(allowed) / int(period) if allowed.isdigit() and int(period) else None
    except (OSError, ValueError):
        return None
