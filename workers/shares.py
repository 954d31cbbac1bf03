"""What a worker has done for each tenant lately, and the order that follows from it. Pure.

A tenant is who asks: a user of the broker, or somebody for whom one asks who may do so
(`lmaas.workers.callers`). Waiting makes up for seconds of work (`broker_config.scheduling.key`), so
that who floods the lanes would soon have nothing but packs that have waited for long, and everybody
else would wait for all of them. Therefore, while packs of several tenants wait, waiting counts only
for those who have had no more than the average of them. What this promises:

- Packs of one tenant keep their order, and with one tenant nothing is changed.
- Shorter still comes before longer.
- A pack of a tenant who has had little waits for those who have had more as long as their packs are
  shorter than it, and at most for its `rank / ageing` seconds, however much of theirs there is.
- Who has had much, and is passed by others, has soon had no more than they: what was done fades.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from lmaas.broker_config.scheduling import key

#: Tenants that a worker remembers; of more, those are forgotten whose last pack is longest ago.
REMEMBERED: Final = 1_000


@dataclass(frozen=True, slots=True)
class Order:
    """Of packs of several tenants at one moment."""

    #: Tenants who have had more than the average: their waiting does not count now.
    ahead: Collection[str]
    #: Unix seconds.
    now: float
    ageing: float

    def place(self, tenant: str, place: float, rank: float) -> float:
        """Of a pack that has `place` among those of its tenant. The smallest comes first."""
        return key(rank, self.now, self.ageing) if tenant in self.ahead else place


class Shares:
    """Seconds of work by tenant, which fade."""

    def __init__(self, memory: float, clock: Callable[[], float] = time.monotonic) -> None:
        """After `memory` seconds work counts a third; with 0 nobody is ever ahead."""
        self._memory = memory
        self._clock = clock
        #: Seconds of work, and the moment as of which they have not faded yet.
        self._had: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def add(self, tenant: str, seconds: float) -> None:
        """A pack of the tenant took so long."""
        if not self._memory:
            return
        now = self._clock()
        self._had[tenant] = (self._of(tenant, now) + seconds, now)
        self._had.move_to_end(tenant)
        if len(self._had) > REMEMBERED:
            self._had.popitem(last=False)

    def ahead(self, tenants: Collection[str]) -> Collection[str]:
        """Those who have had more than the average of them; from any thread."""
        if len(tenants) < 2 or not self._memory:
            return ()
        now = self._clock()
        had = {tenant: self._of(tenant, now) for tenant in tenants}
        average = math.fsum(had.values()) / len(had)
        return {tenant for tenant, seconds in had.items() if seconds > average}

    def _of(self, tenant: str, now: float) -> float:
        seconds, then = self._had.get(tenant, (0.0, now))
        return seconds * math.exp((then - now) / self._memory)
