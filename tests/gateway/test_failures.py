"""What HTTP says of an error."""

from __future__ import annotations

import errno
import os

import pytest
from sqlalchemy import exc

from lmaas.producer.gateway.failures import failure


class DriverError(Exception):
    """As of a driver that tells the codes of PostgreSQL."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__("no")
        self.sqlstate = sqlstate


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EMFILE])
def test_a_machine_that_is_at_its_end_may_be_asked_again(code: int) -> None:
    failed = failure(OSError(code, os.strerror(code), "/some/folder"))
    assert failed is not None
    assert (failed.status, failed.code) == (503, "state_unavailable")
    assert failed.headers["Retry-After"] == "1"
    assert "/some/folder" not in failed.message


@pytest.mark.parametrize("error", [ConnectionRefusedError(), FileNotFoundError(), TimeoutError()])
def test_other_errors_of_the_system_are_nobody_elses_fault(error: OSError) -> None:
    assert failure(error) is None


@pytest.mark.parametrize(
    ("sqlstate", "away"),
    [("57P01", True), ("53300", True), ("40001", True), ("42P01", False)],
)
def test_a_statement_that_is_wrong_is_not_a_database_that_is_away(
    sqlstate: str, away: bool
) -> None:
    error = exc.DBAPIError("SELECT", {}, DriverError(sqlstate))
    assert (failure(error) is not None) == away
