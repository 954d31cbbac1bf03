"""Files of payload keys, and settings by which everything is sealed with them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from lmaas.broker_config.sealing import line_of_new_key
from lmaas.broker_config.settings import Settings


def new_keys(path: Path, *ids: str) -> Path:
    """With a new key of each id, or of the id `a`; the first one seals."""
    path.touch(0o600)
    path.write_text("".join(map(line_of_new_key, ids or ("a",))))
    return path


def sealed(settings: Settings, keys: Path) -> Settings:
    """Nothing is accepted that is not sealed with one of the keys."""
    return msgspec.structs.replace(settings, payload_keys=str(keys), accept_unsealed=False)
