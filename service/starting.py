"""Starting processes: soon, deaf to the signals that a whole group of processes gets, and not to
outlive who started them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from multiprocessing import forkserver, resource_tracker, util
from multiprocessing.context import ForkServerContext, SpawnContext
from types import MappingProxyType
from typing import Final

from lmaas.broker_config.errors import LmaasError

#: Bytes of a folder in which the socket of the process that others are forked from may be: its
#: address has 107, and `multiprocessing` adds 32 to the folder.
_SOCKET_FOLDER_BYTES: Final = 75
#: Tries to start a process while that which it is forked from is ending, and seconds between them.
_STARTS: Final = 100
_ENDING: Final = 0.05
_FOLDERS: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108


def context(*modules: str) -> ForkServerContext | SpawnContext:
    """To start processes with, which need these modules.

    On Linux they are forked from one that has imported the modules and done nothing else: a new
    one takes milliseconds, where Python with a model's runtime takes a third of a second.

    Raises LmaasError when there is no folder for their socket.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    _find_temporary_folder()
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(list(modules))
    return forking


def prepare(
    context: ForkServerContext | SpawnContext, variables: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Start what a context's processes are forked from, and wait until it has imported its modules.

    It has these variables in its environment besides. One that ends over its modules is replaced by
    one without the variables when the first process is started.
    """
    if not isinstance(context, ForkServerContext):
        return
    held = (signal.SIGINT, signal.SIGTERM)
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        with signals_held(*held):
            forkserver.ensure_running()
    finally:
        for name in variables.keys() - before.keys():
            del os.environ[name]
    for _ in range(_STARTS):
        first = context.Process(target=_nothing)
        with contextlib.suppress(EOFError, OSError), signals_held(*held):
            first.start()
            first.join()
            return
        time.sleep(_ENDING)


def _nothing() -> None:
    """What a process runs that is started to see that it can be."""


def _find_temporary_folder() -> None:
    """Let `multiprocessing` have its folder where sockets can be, whatever TMPDIR is."""
    named = filter(None, map(os.environ.get, ("TMPDIR", "TEMP", "TMP")))
    folders = [*dict.fromkeys((*named, *_FOLDERS))]
    before = tempfile.tempdir
    for folder in folders:
        if len(os.fsencode(folder)) <= _SOCKET_FOLDER_BYTES:
            tempfile.tempdir = folder
            try:
                util.get_temp_dir()  # which is made once for all
            except OSError:
                continue
            else:
                return
            finally:
                tempfile.tempdir = before
    raise LmaasError(
        f"no folder for temporary files: none of {', '.join(folders)} can be written to, with a "
        f"path of at most {_SOCKET_FOLDER_BYTES} bytes; name another in TMPDIR"
    )


@contextlib.contextmanager
def signals_held(*numbers: signal.Signals) -> Iterator[None]:
    """Processes that are started meanwhile never get these, from their first instruction on.

    They inherit the blocked signals; one that comes to us meanwhile is delivered afterwards.
    """
    resource_tracker.ensure_running()  # its start would let SIGINT and SIGTERM pass again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent(number: signal.Signals) -> None:
    """Get this signal when the process that started us is gone, however it ended.

    On Linux the kernel sends it, whatever holds Python's lock (fcntl(2), F_SETSIG).
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    if sys.platform != "linux":
        threading.Thread(target=_wait_and_send, args=(number,), daemon=True).start()
        return
    import fcntl

    # A pipe that nobody writes to any more, whose other end only our parent has.
    pipe = parent.sentinel
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETSIG, number)
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([pipe], [], [], 0)[0]:  # it was gone before
        os.kill(os.getpid(), number)


def _wait_and_send(number: signal.Signals) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), number)
