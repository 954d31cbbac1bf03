"""Cores by made-up trees of cgroups, as systems and containers have them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmaas.service import cores

V1, V2 = "cgroup cgroup rw,cpu,cpuacct", "cgroup2 cgroup2 rw,nsdelegate"


@pytest.fixture(autouse=True)
def _eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


class Tree:
    """A /proc/self, and cgroup folders below `point`."""

    def __init__(self, folder: Path, cgroup: str, *mounts: tuple[str, str, str]) -> None:
        """A mount is its root, its folder's name and its kind."""
        self.proc, self.point = folder / "proc", folder
        self.proc.mkdir()
        (self.proc / "cgroup").write_text(cgroup)
        lines = [
            f"{30 + n} 24 0:{n} {root} {folder / name} rw,relatime shared:9 - {kind}\n"
            for n, (root, name, kind) in enumerate(mounts)
        ]
        (self.proc / "mountinfo").write_text(
            "23 1 0:1 / / rw - ext4 /dev/vda rw\n" + "".join(lines)
        )

    def limit(self, folder: str, **files: str) -> None:
        (self.point / folder).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (self.point / folder / name.replace("__", ".")).write_text(content + "\n")


def test_version_2_in_a_container(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/\n", ("/", "cgroup", V2))
    tree.limit("cgroup", cpu__max="150000 100000")
    assert (cores.quota(tree.proc), cores.usable(tree.proc)) == (1.5, 2)


def test_the_smallest_of_all_above_counts(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/a.slice/b.scope\n", ("/", "cgroup", V2))
    tree.limit("cgroup/a.slice/b.scope", cpu__max="max 100000")
    tree.limit("cgroup/a.slice", cpu__max="300000 100000")
    tree.limit("cgroup", cpu__max="500000 100000")
    assert cores.usable(tree.proc) == 3
    tree.limit("cgroup/a.slice/b.scope", cpu__max="5000 100000")
    assert cores.usable(tree.proc) == 1


def test_version_1_whose_folder_a_container_sees_as_its_root(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "4:memory:/x\n3:cpu,cpuacct:/docker/1\n", ("/docker/1", "cpu", V1))
    tree.limit("cpu", cpu__cfs_quota_us="50000", cpu__cfs_period_us="100000")
    assert (cores.quota(tree.proc), cores.usable(tree.proc)) == (0.5, 1)


def test_version_1_in_a_folder_with_a_blank_beside_version_2(tmp_path: Path) -> None:
    mounts = ("/", "u", V2), ("/", "c\\040pu", V1), ("/", "memory", "cgroup cgroup rw,memory")
    tree = Tree(tmp_path, "2:memory:/\n1:cpu:/a\n0::/\n", *mounts)
    tree.limit("c pu/a", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    tree.limit("c pu", cpu__cfs_quota_us="400000", cpu__cfs_period_us="100000")
    assert cores.usable(tree.proc) == 4


@pytest.mark.parametrize("content", ["max 100000", "", "nonsense here", "1 0"])
def test_no_limit(tmp_path: Path, content: str) -> None:
    tree = Tree(tmp_path, "0::/../outside\n", ("/", "cgroup", V2))
    tree.limit("cgroup", cpu__max=content)
    assert (cores.quota(tree.proc), cores.usable(tree.proc)) == (None, 8)


def test_a_quota_above_what_may_be_scheduled_and_no_proc(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/\n", ("/", "cgroup", V2))
    tree.limit("cgroup", cpu__max="1600000 100000")
    assert cores.usable(tree.proc) == 8
    assert cores.usable(tmp_path / "nothing") == 8
