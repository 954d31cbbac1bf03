"""Programs that end when we end, however we end.

They form one process group with a guard: a shell that waits at a pipe whose other end only we
hold. When we are gone the pipe closes, and the guard kills its group, itself included. So nothing
outlives us, and no pid is remembered that somebody else could have by then. (A program that forks
without exec meanwhile hands the pipe on: the group then lives as long as that child.)
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lmaas.broker_config.errors import LocalNodeError

#: Waits for the end of its input, and takes its process group and itself along.
_GUARD: Final = 'trap "" HUP INT TERM; read -r _; kill -KILL 0'
_POLL: Final = 0.05


class ProcessGroup:
    """A guard and the programs that it ends."""

    def __init__(self) -> None:
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        self._programs: list[subprocess.Popen[bytes]] = []

    def spawn(
        self, folder: Path, console: str, environment: Mapping[str, str], *command: str
    ) -> subprocess.Popen[bytes]:
        """Starts a program in `folder`; what it writes goes to the end of the file `console`.

        Raises LocalNodeError when it does not start.
        """
        with (folder / console).open("ab") as output:
            try:
                program = subprocess.Popen(
                    command,
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    process_group=self._guard.pid,
                )
            except OSError as error:
                raise LocalNodeError(
                    f"{command[0]} does not start: {error.strerror}; install RabbitMQ again"
                ) from error
        self._programs.append(program)
        return program

    def identities(self) -> dict[int, str]:
        """Pid -> when it started, of all that run; for `kill_left_over` after a crash."""
        return {
            process.pid: identity
            for process in (self._guard, *self._programs)
            if (identity := _identity(process.pid))
        }

    def end(self) -> None:
        """Closing the pipe lets the guard kill its group, whatever is left of it."""
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        for process in (*self._programs, self._guard):
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:  # the guard itself was killed
                process.kill()
                process.wait()


def kill_left_over(processes: Mapping[int, str]) -> None:
    """Ends what a crash left, in case that the guard was killed too."""
    left = {pid: started for pid, started in processes.items() if _identity(pid) == started}
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    patience = time.monotonic() + 10
    while any(_identity(pid) == started for pid, started in left.items()):
        if time.monotonic() > patience:
            raise LocalNodeError(f"processes {sorted(left)} of an earlier node do not end")
        time.sleep(_POLL)


def _identity(pid: int) -> str | None:
    """When a process started, which with its pid names it for ever; None when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None if Path("/proc/self").exists() else _identity_by_ps(pid)
    return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"


def _identity_by_ps(pid: int) -> str | None:
    answer = subprocess.run(
        ["ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = answer.stdout.strip().partition(" ")
    return started.strip() if started and not state.startswith("Z") else None
