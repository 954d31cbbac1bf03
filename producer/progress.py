"""How far a batch job is, from what the broker says of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from lmaas.producer.journal import ENDED, JobEntry


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is."""

    entry: JobEntry
    #: Chunks whose results wait to be collected; None when the results are gone.
    done: int | None
    #: Whether somebody is collecting at this moment; `done` does not count what they hold.
    collecting: bool = False
    #: Why it may never be finished, as far as is known.
    note: str | None = None

    @property
    def finished(self) -> bool:
        """Whether every chunk has been answered."""
        chunks = self.entry.chunks
        return chunks is not None and self.done is not None and self.done >= chunks

    @property
    def state(self) -> str:
        """One word for people."""
        if self.entry.state in ENDED:
            return self.entry.state
        if self.done is None:
            return "expired"
        if self.collecting:
            return "collecting"
        if self.finished:
            return "finished"
        return "running" if self.entry.state == "submitted" else "submitting"
