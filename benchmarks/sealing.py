"""What sealed payloads cost: the same workers, asked with payload keys and without, in turns."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

import msgspec

from benchmarks import rig
from benchmarks.report import Report
from benchmarks.turns import in_turns
from lmaas.broker_config.sealing import line_of_new_key

#: Goal for what is sealed against what is not.
AT_LEAST: Final = 0.95
ON, OFF = "sealed", "not sealed"


async def measure() -> Report:
    texts = rig.reviews()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "payload.keys"
        path.touch(0o600)
        path.write_text(line_of_new_key("bench"))
        async with rig.broker() as settings:
            both = msgspec.structs.replace(settings, payload_keys=str(path), accept_unsealed=True)
            async with rig.workers(both, 1):
                turns = await in_turns({ON: both, OFF: settings}, texts)
    workers = "one worker process, with payload keys, that takes what is not sealed too"
    return turns.report("sealing", workers, ON, OFF, AT_LEAST)
