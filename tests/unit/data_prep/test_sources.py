"""Objects in S3 as streams, with connections that fail halfway."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ResponseStreamingError

from data_prep.request import S3Location
from data_prep.sources import open_s3
from pipeline.errors import SourceUnavailable
from tests.unit.data_prep.conftest import BUCKET

if TYPE_CHECKING:
    from collections.abc import Callable

BODY = random.Random(0).randbytes(1_024_000)
PLACE = S3Location(BUCKET, "halfway/data.csv")


class Cut:
    """A response's body whose connection fails after `left` bytes."""

    def __init__(self, body: Any, left: int) -> None:
        self._body, self._left = body, left

    def read(self, amount: int) -> bytes:
        if not self._left:
            raise ResponseStreamingError(error="connection reset")
        data: bytes = self._body.read(min(amount, self._left))
        self._left -= len(data)
        return data

    def close(self) -> None:
        self._body.close()


class CutS3:
    """The real S3, but each of the first answers is cut; `between` happens before a second request."""

    def __init__(self, s3: Any, cuts: list[int], between: Callable[[], None] = lambda: None) -> None:
        self._s3, self._cuts, self._between = s3, cuts, between
        self.asked: list[dict[str, Any]] = []

    def get_object(self, **request: Any) -> Any:
        if self.asked:
            self._between()
        self.asked.append(request)
        response = self._s3.get_object(**request)
        if self._cuts:
            response["Body"] = Cut(response["Body"], self._cuts.pop(0))
        return response


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.stream.FIRST_WAIT_SECONDS", 0.0)


def test_a_cut_connection_resumes_on_the_same_object(s3: Any, put: Callable[[str, bytes], None]) -> None:
    put(PLACE.key, BODY)
    flaky = CutS3(s3, [300_000, 400_000])
    assert open_s3(flaky, PLACE).buffered().read() == BODY
    assert [request.get("Range") for request in flaky.asked] == [None, "bytes=300000-", "bytes=700000-"]
    assert len({request.get("IfMatch") for request in flaky.asked[1:]}) == 1


def test_an_object_that_is_always_cut_is_unavailable(s3: Any, put: Callable[[str, bytes], None]) -> None:
    put(PLACE.key, BODY)
    with pytest.raises(SourceUnavailable, match=r"s3://data-prep-tests/halfway/data.csv: .* gave up after 5 tries"):
        open_s3(CutS3(s3, [10, *[0] * 9]), PLACE).buffered().read()


def test_an_object_that_is_replaced_meanwhile_is_not_mixed(s3: Any, put: Callable[[str, bytes], None]) -> None:
    put(PLACE.key, BODY)
    flaky = CutS3(s3, [300_000], between=lambda: put(PLACE.key, BODY[::-1]))
    with pytest.raises(SourceUnavailable, match="changed while it was being read"):
        open_s3(flaky, PLACE).buffered().read()


def test_an_empty_object_is_empty(s3: Any, put: Callable[[str, bytes], None]) -> None:
    put(PLACE.key, b"")
    assert open_s3(s3, PLACE).buffered().read() == b""


def test_awss_own_error_stays_its_own(s3: Any) -> None:
    with pytest.raises(ClientError, match="NoSuchKey"):
        open_s3(s3, S3Location(BUCKET, "nothing")).buffered().read()
