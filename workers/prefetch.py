"""How many packs of a lane a worker is handed ahead: enough to stay busy, too few to hoard.

Pure. What one worker holds another one cannot take, however idle it is. So a worker has what it
runs, and what it would run while the next pack is on its way. In all lanes but the last it has one
more than it runs: else it would begin what is longer whenever a lane is empty for a round trip.

Who is alone with a lane takes nothing from anybody, and has more to choose from: else the shortest
of those that wait may be on its way when the next one is begun.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from lmaas.broker_config.scheduling import LANES

#: The share of its time that a worker may wait for the next pack before it is given one ahead.
IDLE: Final = 0.05
#: Seconds of work that a worker holds in a lane at least: in a lane that runs dry for a moment the
#: next short pack may be on its way while the worker begins a long one.
AHEAD: Final = 0.02
#: Seconds of work that a worker holds in a lane when it is alone: so long may one that is added
#: have nothing to do.
ALONE: Final = 0.2
#: Never more than this, however short the packs are: as many as are joined at most.
MOST: Final = 256
#: Under the balance "round_robin" the broker deals to all in turn, as none is ever full.
DEALT: Final = 256
LAST: Final = list(LANES)[-1]
#: Weight of the newest measurement.
WEIGHT: Final = 0.1
#: Confirms that are remembered: more than one burst of replies has.
RECENT: Final = 512
#: A lane's prefetch is changed when it is wrong by this factor: a change costs two round trips.
WRONG: Final = 1.5


def first_confirms() -> deque[float]:
    """Seconds of the broker's confirms, before one was measured."""
    return deque([0.001], RECENT)


def prefetch(seconds: float, round_trip: float) -> int:
    """Packs of `seconds` that a worker is given ahead, the running one included.

    `round_trip` seconds pass from the end of a pack until another one takes its place.
    """
    if round_trip <= IDLE * seconds:
        return 1
    return min(1 + math.ceil(max(round_trip, AHEAD) / seconds), MOST)


class Prefetch:
    """The prefetch of each lane of one model in one worker, from what it measures."""

    def __init__(self, confirms: deque[float] | None = None) -> None:
        """`confirms` are the seconds of late confirms, for all models of the worker."""
        # Until there is a measurement: packs of a quarter of what their lane takes.
        self._seconds = {lane: min(bound / 4, 1.0) for lane, bound in LANES.items()}
        self._packs = dict.fromkeys(LANES, 0)
        self._confirms = first_confirms() if confirms is None else confirms

    def ran(self, lane: str, seconds: float) -> None:
        """A pack of the lane took `seconds`."""
        self._packs[lane] += 1
        # The first ones count for more: what stood there was a guess.
        weight = max(WEIGHT, 1 / self._packs[lane])
        self._seconds[lane] += weight * (seconds - self._seconds[lane])

    def confirmed(self, seconds: float) -> None:
        """The broker confirmed a reply after `seconds`."""
        self._confirms.append(seconds)

    def wanted(self, lane: str, *, alone: bool = False) -> int:
        """`alone`: no other worker takes from the lane."""
        # The shortest of late: the others have waited in queues that a larger prefetch would only
        # make longer. The ack to the broker and the next pack take about as long as the confirm.
        wanted = prefetch(self._seconds[lane], 2 * min(self._confirms))
        if alone:
            wanted = max(wanted, min(1 + int(ALONE / self._seconds[lane]), MOST))
        return max(wanted, 1 if lane == LAST else 2)

    def better(self, lane: str, now: int, *, alone: bool = False) -> int:
        """What a lane that has the prefetch `now` should have: the same, if that is near enough."""
        wanted = self.wanted(lane, alone=alone)
        return wanted if max(wanted / now, now / wanted) >= WRONG else now
