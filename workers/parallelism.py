"""How many processes serve models on this machine, and how many threads each session has. Pure.

What was measured of a model says how many cores a process of it should have. Numbers that the user
has set stand. No session has more threads than its process's share of the cores, so that the work
of all processes together never has more threads than there are cores.
"""

from __future__ import annotations

from collections.abc import Iterable

from lmaas.broker_config.settings import Settings
from lmaas.workers.manifest import Manifest


def processes(settings: Settings, served: Iterable[Manifest], cores: int) -> int:
    """What is set; else as many as the model that wants the most: one for each `threads` cores.

    A model that nobody has measured wants one a core, and so does nothing at all. What does not run
    on the processor has one process, as each has the model in the device's memory.
    """
    if settings.processes:
        return settings.processes
    if not on_cpu(settings):
        return 1
    wanted = [cores // _threads(settings, one, cores) for one in served]
    return max(wanted, default=cores)


def threads(settings: Settings, manifest: Manifest, cores: int) -> int:
    """Of the model's session in each of `settings.processes` processes; 0 counts as one."""
    share = max(1, cores // max(1, settings.processes))
    return settings.threads or min(share, _threads(settings, manifest, cores))


def on_cpu(settings: Settings) -> bool:
    """Whether models run on the processor alone."""
    return {name.lower() for name in settings.providers} <= {"cpu", "cpuexecutionprovider"}


def _threads(settings: Settings, manifest: Manifest, cores: int) -> int:
    """That a process of the model should have, if its machine has nothing else to do."""
    measured = manifest.parallelism.threads if manifest.parallelism else 1
    return min(settings.threads or measured, cores)
