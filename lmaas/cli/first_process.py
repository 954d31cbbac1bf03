"""Process number 1, as the command of a container is: it hands signals on, and reaps.

The kernel keeps from number 1 every signal that it has no handler for, the timer that ends a stuck
worker among them, and makes it the parent of every process whose own is gone. So the command runs
in a process of its own, as it does everywhere else.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from typing import Final

_FIRST: Final = 1


def stand_in() -> None:
    """Where this is process number 1, returns in a new one only; number 1 ends when that ends."""
    if os.getpid() != _FIRST:
        return
    signals = signal.valid_signals()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    command = os.fork()
    if command:
        os._exit(_serve(command, signals))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(command: int, signals: Iterable[int]) -> int:
    """Until the command ends; its exit code, or 128 and the number of the signal that ended it."""
    while True:
        told = signal.sigwaitinfo(signals)
        if told.si_signo == signal.SIGCHLD:
            if (code := _reap(command)) is not None:
                return code
        elif told.si_code <= 0:  # else it is the kernel's, as for Ctrl-C: the command has it too
            with contextlib.suppress(ProcessLookupError):
                os.kill(command, told.si_signo)


def _reap(command: int) -> int | None:
    """Every process that has ended; the exit code of the command when it was among them."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == command:
                code = os.waitstatus_to_exitcode(ended[1])
    return code if code is None or code >= 0 else 128 - code
