"""The results of a job as a file of another format, in the order of the job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lmaas.broker_config.messages import Result
from lmaas.producer.collect import encoded_results, write_results
from lmaas.producer.gateway.at_rest.keeping import sync
from lmaas.producer.gateway.jobs.result_reader import in_order
from lmaas.producer.gateway.state import State
from lmaas.producer.tables import Place
from lmaas.producer.tables.file_errors import unusable
from lmaas.producer.tables.parquet import Parquet


def convert(state: State, job: str, path: Path, name: str) -> None:
    """Write the file, in the format of its suffix. `name`: what it will be called.

    It is on disk when this returns. Raises DataError, OSError, and SealError.
    """
    at_rest, target = state.at_rest, Place.to(str(path))
    results = in_order(state.results, job, at_rest)
    if not at_rest.is_sealed:
        write_results(results, target)
        return
    try:
        _convert_sealed(state, results, target, path, name)
        sync(path)
    except OSError as error:
        raise unusable(path, error) from error


def _convert_sealed(
    state: State, results: Iterator[list[Result]], target: Place, path: Path, name: str
) -> None:
    at_rest = state.at_rest
    rows, pieces = encoded_results(results, target)
    if not isinstance(rows, Parquet):
        _write(state, path, name, pieces)
        return
    # It is read several times before Parquet can be made of it.
    stream = path.with_name(f"{path.name}.stream")
    try:
        _write(state, stream, name, pieces)
        with at_rest.create(path, name) as whole:
            rows.convert(lambda: at_rest.open(stream, name), whole)
    finally:
        stream.unlink(missing_ok=True)


def _write(state: State, path: Path, name: str, pieces: Iterator[bytes]) -> None:
    with state.at_rest.create(path, name) as file:
        for piece in pieces:
            file.write(piece)
