"""Hooks of Schemathesis: most of what it makes up is to reach a model, and nothing leaves."""

from __future__ import annotations

import zlib
from typing import Any

import schemathesis
from schemathesis import HookContext

#: What is asked for in the place of most names that nobody has; test_fuzz.py has the hooks.
KNOWN = {
    "model": ("sentiment",),
    "version": ("1",),
    "purpose": ("batch",),
    "endpoint": ("/v1/moderations", "/v1/classifications"),
    "name": ("waits", "works"),
}
#: What hardly any file can be read with.
RARE = {"delimiter", "encoding", "format", "text_column", "id_column", "deadline"}
#: Where nobody listens, on this machine.
NOWHERE = "http://127.0.0.1:9/"


def known(values: Any) -> Any:
    """The same with a known name, three times of four."""
    if not isinstance(values, dict):
        return values
    chosen = dict(values)
    if isinstance(chosen.get("callback_url"), str):
        chosen["callback_url"] = NOWHERE
    number = zlib.crc32(repr(values).encode())
    if number % 4 == 0:
        return chosen
    for name in KNOWN.keys() & chosen.keys():
        chosen[name] = KNOWN[name][number % len(KNOWN[name])]
    return {name: value for name, value in chosen.items() if name not in RARE}


@schemathesis.hook
def map_body(_context: HookContext, body: Any) -> Any:
    return known(body)


@schemathesis.hook
def map_query(_context: HookContext, query: Any) -> Any:
    return known(query)


@schemathesis.hook
def map_path_parameters(_context: HookContext, path_parameters: Any) -> Any:
    return known(path_parameters)
