"""What runs in the isolated process."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from lmaas.broker_config.errors import ModelError, SettingsError
from lmaas.broker_config.messages import Item, ItemError, Request
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.settings import Settings
from lmaas.service.starting import end_with_parent
from lmaas.workers.answering import Answerer
from lmaas.workers.isolated.tasks import Outcome, Progress, Task, step_of, tasks
from lmaas.workers.pack import Pack, read
from lmaas.workers.repository import silence


def serve(
    connection: Connection,
    progress: Progress,
    settings: Settings,
    worker: str,
    versions: dict[str, str],
) -> None:
    """Answer what comes through the pipe until its other end is closed."""
    end_with_parent(signal.SIGKILL)
    silence()
    _be_first_to_go()
    answerer = Answerer(settings, worker)
    try:
        seals = Seals(settings)
        for model, version in versions.items():
            answerer.models.switch(answerer.models.load(model, version))
    except (ModelError, SettingsError) as error:
        connection.send_bytes(str(error).encode())
        return
    connection.send_bytes(b"")
    with contextlib.suppress(EOFError):
        while True:
            task = tasks.decode(connection.recv_bytes())
            outcome = _done(task, progress, answerer, seals)
            connection.send_bytes(msgspec.msgpack.encode(outcome))


def _done(task: Task, progress: Progress, answerer: Answerer, seals: Seals) -> Outcome:
    opening = seals.opening(task.seal)
    pack = read(task.body, task.content_type, answerer.settings, task.model, opening)
    if pack.request is None or pack.error is not None:
        return Outcome(None, {}, pack.error)
    # What is known to be wrong is not sent: it may be a text that nothing can carry.
    request = _with_faults(pack.request, pack.faults)
    outcome = Outcome(request, pack.faults, None)
    pack.request, pack.version = request, task.version
    for places in _units(task, len(request.items)):
        progress.begin(step_of(places))
        (reply,) = answerer.answer([_part(pack, places)])
        outcome.replies.append((places, reply))
    return outcome


def _units(task: Task, items: int) -> Iterator[list[int]]:
    """The places of the items that are run, of those that are run together each time."""
    match task.action:
        case "one":
            places = [task.place]
        case "run":
            without = set(task.without)
            places = [place for place in range(items) if place not in without]
        case "read":
            places = []
    if task.singly:
        yield from ([place] for place in places)
    elif places:
        yield places


def _part(pack: Pack, places: Sequence[int]) -> Pack:
    """The items at these places."""
    assert pack.request is not None
    items = [pack.request.items[place] for place in places]
    faults = {at: pack.faults[place] for at, place in enumerate(places) if place in pack.faults}
    request = msgspec.structs.replace(pack.request, items=items)
    size = pack.size * len(places) // len(pack)
    return Pack(request, faults, size=size, version=pack.version)


def _be_first_to_go() -> None:
    """What the kernel ends first, when memory is short."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")


def _with_faults(request: Request, faults: dict[int, ItemError]) -> Request:
    """What is known to be wrong already goes along with its item, and comes back as its result."""
    if not faults:
        return request
    items = [
        Item(id=item.id, error=faults[place]) if place in faults else item
        for place, item in enumerate(request.items)
    ]
    return msgspec.structs.replace(request, items=items)
