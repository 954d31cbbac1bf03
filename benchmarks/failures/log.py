"""What everybody says, in one file and in the order in which it was heard."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path


class Log:
    """Lines with their moment and who said them; without a folder they are dropped."""

    def __init__(self, folder: Path | None) -> None:
        """The file is `log.txt` there; the folder is made."""
        self.folder = folder
        self._file = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            # To the end of each line at once: who reads it may want to know about a kill -9.
            self._file = (folder / "log.txt").open("a", encoding="utf-8", buffering=1)

    def note(self, who: str, words: str) -> None:
        if self._file is not None:
            moment = datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]
            self._file.writelines(f"{moment} {who}: {line}\n" for line in words.splitlines())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
