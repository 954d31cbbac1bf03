"""Pairs of texts from the columns of files that are sent up as jobs."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmaas.broker_config.settings import Settings
from lmaas.producer.gateway.settings import GatewaySettings
from tests.gateway.conftest import Gateway, listening
from tests.gateway.test_jobs import PARQUET, ended, results
from tests.integration.lanes import serving
from tests.integration.test_kinds import installed, letters

__all__ = ["installed", "letters"]

COLUMNS = {"text_column": "premise", "pair_column": "hypothesis"}
CSV = b"premise,hypothesis\naa,ab\nbb,ab\naa,\n"
LINES = b"""{"premise": "aa", "hypothesis": "ab"}
{"premise": "bb", "hypothesis": "ab"}
{"premise": "aa"}
"""


def parquet() -> bytes:
    file = io.BytesIO()
    columns = {"premise": ["aa", "bb", "aa"], "hypothesis": ["ab", "ab", None]}
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


async def answers(
    gateway: Gateway, model: str, data: bytes, media_type: str
) -> Mapping[str, str | None]:
    """Label, or the error's message, by the row's number."""
    status, job = await gateway.post(
        "/v1/jobs",
        params={"model": model, **COLUMNS},
        data=data,
        headers={"Content-Type": media_type},
    )
    assert status == 202, job
    await ended(gateway, job["id"])
    lines = await results(gateway, job["id"])
    return {line["id"]: line.get("label") or line["error"]["message"] for line in lines}


@pytest.mark.parametrize(
    ("data", "media_type", "problem"),
    [
        (CSV, "text/csv", "the text is empty"),
        (LINES, "application/x-ndjson", "expected a text, got null"),
        (parquet(), PARQUET, "expected a text, got null"),
    ],
    ids=["csv", "ndjson", "parquet"],
)
async def test_a_job_of_pairs(
    gateway_settings: GatewaySettings,
    letters: Settings,
    data: bytes,
    media_type: str,
    problem: str,
) -> None:
    async with serving(letters), listening(gateway_settings, letters) as gateway:
        found = await answers(gateway, "letters", data, media_type)
        assert found == {"0": "a", "1": "b", "2": f"text_pair: {problem}"}


@pytest.mark.usefixtures("worker")
async def test_what_is_wrong_with_pairs_is_told(gateway: Gateway) -> None:
    found = await answers(gateway, "sentiment", CSV, "text/csv")
    one = "this model takes one text; the item has text_pair (a file's pair column) as well"
    assert found == {"0": one, "1": one, "2": "text_pair: the text is empty"}
    query = {"model": "sentiment", **COLUMNS, "pair_column": "no"}
    status, answer = await gateway.post(
        "/v1/jobs", params=query, data=CSV, headers={"Content-Type": "text/csv"}
    )
    assert (status, answer["error"]["code"]) == (400, "unreadable")
    assert (
        "no column 'no'; name the one with the second texts with pair_column"
        in (answer["error"]["message"])
    )
