"""What the tests of table formats share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lmaas.producer.tables import Answers, Place, Wanted, encoding, footer, open_table

#: A file with answers, in the format of another name beside it.
Convert = Callable[..., Path]


def _answers(rows: int) -> Answers:
    return Answers(["x"] * rows, [0.5] * rows, [None] * rows)


@pytest.fixture
def convert() -> Convert:
    def converted(path: Path, name: str, wanted: Wanted | None = None) -> Path:
        target = Place.of(str(path.with_name(name)))
        table = open_table(Place.of(str(path)), wanted or Wanted())
        try:
            how = encoding(target, table, ("label", "score", "error"))
            rows = [how.rows(chunk, _answers(len(chunk))) for chunk in table.chunks]
        finally:
            table.close()
        partial = Path(target.path)
        partial.write_bytes(how.header() + b"".join(rows) + footer(target))
        return how.finish(partial).replace(partial)

    return converted
