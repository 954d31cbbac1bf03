"""Open files that this process may have: without any left the libraries below end in odd ways."""

from __future__ import annotations

import resource
from typing import Final

from lmaas.broker_config.errors import LmaasError

#: What every command can do with, on a machine of some cores.
_NEEDED: Final = 64
#: What systems give by default. Not more: RabbitMQ's memory grows with what it is given.
_USUAL: Final = 1024


def ensure() -> None:
    """Raise a low limit to the usual one, as far as allowed.

    Raises LmaasError when it is too low even then.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _USUAL if hard == resource.RLIM_INFINITY else min(hard, _USUAL)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < _NEEDED:
        raise LmaasError(f"{limit()}; at least {_NEEDED} are needed")


def limit() -> str:
    """How many there are, in words."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return f"a process may have {soft} open files (ulimit -n)"
