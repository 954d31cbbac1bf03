"""`import lmaas` changes nothing in a process; the first connection changes two libraries."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

#: Prints what the process is like after the preparations in sys.argv[1], and after the code in [2].
PROGRAM = """
import asyncio, builtins, faulthandler, gc, io, json, locale, logging, multiprocessing, os, signal
import socket, sys, threading, warnings

def logger(it):
    return [it.level, it.propagate, it.disabled, list(map(repr, it.handlers + it.filters))]

def policy():
    # Python makes the default one when it is first needed.
    made = asyncio.events._event_loop_policy
    module = type(made).__module__
    return "default" if made is None or module.startswith("asyncio.") else module

def attributes(name):
    # What a class or a function of an already loaded library is, by identity.
    found = {}
    for place, value in vars(sys.modules[name]).items():
        found[f"{name}.{place}"] = id(value)
        if isinstance(value, type):
            found |= {f"{name}.{place}.{part}": id(of) for part, of in vars(value).items()
                      if callable(of)}
    return found

def state():
    loggers = logging.root.manager.loggerDict.items()
    return {
        "logging": [logging.root.manager.disable, repr(logging.getLoggerClass()),
                    repr(logging.getLogRecordFactory()), repr(logging.lastResort)],
        "loggers": {name: made for name, it in [("root", logging.root), *loggers]
                    if isinstance(it, logging.Logger)
                    if (made := logger(it)) != [0, True, False, []]},
        "signals": {int(number): repr(signal.getsignal(number))
                    for number in signal.valid_signals()},
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "policy": policy(),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "mask": [os.umask(0o22), os.umask(0o22)],
        "path": [sys.path, list(map(repr, sys.meta_path + sys.path_hooks))],
        "hooks": [id(sys.excepthook), id(threading.excepthook), id(sys.unraisablehook),
                  id(builtins.print), id(builtins.__import__), id(sys.displayhook)],
        "limits": [sys.getrecursionlimit(), sys.getswitchinterval(), socket.getdefaulttimeout(),
                   gc.get_threshold(), gc.isenabled(), faulthandler.is_enabled()],
        "streams": [id(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "locale": locale.setlocale(locale.LC_ALL),
        "processes": [multiprocessing.get_start_method(allow_none=True),
                      len(multiprocessing.active_children())],
        "threads": [thread.name for thread in threading.enumerate()],
        "warnings": list(map(repr, warnings.filters)),
        "files": sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else [],
        "libraries": {place: of for name in LIBRARIES for place, of in attributes(name).items()},
    }

exec(sys.argv[1])
LIBRARIES = [name for name in sys.modules
             if name.partition(".")[0] in ("aio_pika", "aiormq", "pamqp", "yarl", "msgspec")]
before = state()
exec(sys.argv[2])
json.dump([before, state()], sys.stdout)
"""
LIBRARIES = "import aio_pika, aiormq.connection, pamqp.frame, msgspec, yarl"


def changed(prepare: str, code: str) -> dict[str, Any]:
    """What the code has changed, before and afterwards, by kind."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, prepare, code],
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout)
    return {kind: (before[kind], value) for kind, value in after.items() if value != before[kind]}


def test_nothing_changes_at_the_import() -> None:
    assert changed("pass", "from lmaas import *") == {}


def test_libraries_that_the_user_has_imported_stay_as_they_are() -> None:
    assert changed(LIBRARIES, "from lmaas import *") == {}


def test_nothing_changes_when_a_client_is_made_that_connects_to_nothing() -> None:
    code = "import lmaas; lmaas.SyncClient(); lmaas.Jobs()"
    assert changed(LIBRARIES, code) == {}


def test_the_first_connection_changes_the_libraries_and_nothing_else() -> None:
    code = """
import lmaas
try:
    lmaas.SyncClient(broker_url="amqp://127.0.0.1:1/", connect_timeout=0.01).__enter__()
except lmaas.BrokerUnavailable:
    pass
"""
    found = changed(LIBRARIES, code)
    assert set(found) == {"loggers", "libraries"}
    before, after = found["loggers"]
    assert set(after) - set(before) == {"aiormq.connection"}
    before, after = found["libraries"]
    changes = {place for place, value in after.items() if value != before[place]}
    assert "pamqp.header.ContentHeader.unmarshal" in changes
    # The same classes, where others have imported them.
    of_classes = {".".join(place.split(".")[-2:]) for place in changes}
    assert of_classes == {"ContentHeader.unmarshal", "Countdown.__call__"}
