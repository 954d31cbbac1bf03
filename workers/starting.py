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
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.context import ForkServerContext, SpawnContext


def context(*modules: str) -> ForkServerContext | SpawnContext:
    """To start processes with, which need these modules.

    On Linux they are forked from one that has imported the modules and done nothing else: a new
    one takes milliseconds, where Python with a model's runtime takes a third of a second.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(list(modules))
    return forking


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
