"""Objects in S3 are read as streams, after lost connections from where they stopped, and in pieces."""

from __future__ import annotations

import itertools
import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ResponseStreamingError
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from data_prep.request import S3Location
from data_prep.sources import DatasetFiles, open_s3
from pipeline.contracts.data import Piece
from pipeline.errors import Refused, SourceUnavailable
from tests.unit.data_prep.conftest import BUCKET, make_event, prep_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from data_prep.row_formats import Row

BODY = random.Random(0).randbytes(1_024_000)
PLACE = S3Location(BUCKET, "halfway/data.csv")


class CutBody:
    """A response's body whose connection fails after `remaining` bytes."""

    def __init__(self, body: Any, remaining: int) -> None:
        self._body, self._remaining = body, remaining

    def read(self, amount: int) -> bytes:
        if not self._remaining:
            raise ResponseStreamingError(error="connection reset")
        data: bytes = self._body.read(min(amount, self._remaining))
        self._remaining -= len(data)
        return data

    def close(self) -> None:
        self._body.close()


class CutS3:
    """The real S3, but the first answers are cut at `cuts`. `between` is called before each request after the first."""

    def __init__(self, s3: Any, cuts: list[int], between: Callable[[], None] = lambda: None) -> None:
        self._s3, self._cuts, self._between = s3, cuts, between
        self.requests: list[dict[str, Any]] = []

    def get_object(self, **request: Any) -> Any:
        if self.requests:
            self._between()
        self.requests.append(request)
        response = self._s3.get_object(**request)
        if self._cuts:
            response["Body"] = CutBody(response["Body"], self._cuts.pop(0))
        return response


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.source.stream.FIRST_WAIT_SECONDS", 0.0)


def source(s3: Any) -> DatasetFiles:
    return DatasetFiles(prep_request(make_event("out/", format="columns")["request"]).dataset, None, s3)


def whole_piece(s3: Any, key: str) -> Piece:
    """Return the whole object as one piece, as Plan lists it."""
    found = s3.head_object(Bucket=BUCKET, Key=key)
    size = found["ContentLength"]
    return Piece(key, "train", size, found["ETag"], 0, size)


def cut_piece(piece: Piece, places: set[int]) -> list[Piece]:
    """Cut the piece at `places`, and return all parts. Places beyond its end do not count."""
    bounds = [piece.start, *sorted(place for place in places if piece.start < place < piece.end), piece.end]
    return [piece._replace(start=start, end=end) for start, end in itertools.pairwise(bounds)]


def test_reading_goes_on_after_a_lost_connection_on_the_same_object(s3: Any, put: Callable[[str, bytes], None]) -> None:
    put(PLACE.key, BODY)
    flaky = CutS3(s3, [300_000, 400_000])
    assert open_s3(flaky, PLACE).buffered().read() == BODY
    assert [request.get("Range") for request in flaky.requests] == [None, "bytes=300000-", "bytes=700000-"]
    assert len({request.get("IfMatch") for request in flaky.requests[1:]}) == 1


def test_an_object_whose_connection_is_always_lost_is_unavailable(s3: Any, put: Callable[[str, bytes], None]) -> None:
    put(PLACE.key, BODY)
    with pytest.raises(SourceUnavailable, match=r"s3://data-prep-tests/halfway/data.csv: .* gave up after 5 tries"):
        open_s3(CutS3(s3, [10, *[0] * 9]), PLACE).buffered().read()


def test_an_object_that_is_replaced_meanwhile_is_an_error(s3: Any, put: Callable[[str, bytes], None]) -> None:
    put(PLACE.key, BODY)
    flaky = CutS3(s3, [300_000], between=lambda: put(PLACE.key, BODY[::-1]))
    with pytest.raises(ClientError, match="PreconditionFailed"):
        open_s3(flaky, PLACE).buffered().read()


def test_an_empty_object_is_empty(s3: Any, put: Callable[[str, bytes], None]) -> None:
    put(PLACE.key, b"")
    assert open_s3(s3, PLACE).buffered().read() == b""


def test_an_error_of_aws_is_raised_unchanged(s3: Any) -> None:
    with pytest.raises(ClientError, match="NoSuchKey"):
        open_s3(s3, S3Location(BUCKET, "nothing")).buffered().read()


def test_reading_goes_on_in_the_middle_of_a_row(s3: Any, put: Callable[[str, bytes], None]) -> None:
    written = [(f"A: {n} " + "x" * 2000, f"s {n}") for n in range(300)]
    put("halfway/a.jsonl", b"".join(json.dumps({"dialogue": d, "summary": s}).encode() + b"\n" for d, s in written))
    piece = whole_piece(s3, "halfway/a.jsonl")
    flaky = CutS3(s3, [1000, 77_777])
    assert list(source(flaky).rows(piece)) == [(d, s, None) for d, s in written]
    assert [request.get("Range") for request in flaky.requests] == [None, "bytes=1000-", "bytes=78777-"]
    assert {request["IfMatch"] for request in flaky.requests} == {piece.etag}


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.csv.gz"])
def test_an_object_that_changed_after_it_was_listed_is_refused(
    s3: Any, put: Callable[[str, bytes], None], name: str
) -> None:
    put(f"changing/{name}", b"dialogue,summary\na,b\n")
    piece = whole_piece(s3, f"changing/{name}")
    put(f"changing/{name}", b"dialogue,summary\na,c\n")
    with pytest.raises(Refused) as caught:
        list(source(s3).rows(piece))
    assert str(caught.value) == (
        f"dataset.source: s3://{BUCKET}/changing/{name} has changed since this run was planned; start a new execution"
    )


def test_an_object_that_has_gone_is_refused(s3: Any, put: Callable[[str, bytes], None]) -> None:
    put("changing/b.csv", b"dialogue,summary\na,b\n")
    piece = whole_piece(s3, "changing/b.csv")
    s3.delete_object(Bucket=BUCKET, Key="changing/b.csv")
    with pytest.raises(Refused, match=r"s3://data-prep-tests/changing/b.csv has gone since this run was planned"):
        list(source(s3).rows(piece))


LINE = st.sampled_from(
    [
        b'{"dialogue": "a", "summary": "b"}',
        b'{"dialogue": "\xf0\x9f\x98\x80\xc3\xa9", "summary": "long ' + b"x" * 30 + b'"}',
        b'\xef\xbb\xbf{"dialogue": "a", "summary": "b"}',
        b'{"dialogue": "a"}',
        b'{"summary": "b"}',
        b"",
        b" ",
        b"\r",
        b"no",
        b"\xff",
        b"\xef\xbb",
        b"[1]",
    ]
)
JSONL = st.tuples(
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.lists(st.tuples(LINE, st.sampled_from([b"\n", b"\r\n"])).map(b"".join), max_size=8).map(b"".join),
    LINE,
).map(b"".join)


@given(JSONL, st.sets(st.integers(0, 300), max_size=6))
@example(b'{"dialogue": "a", "summary": "b"}\n\xef\xbb\xbf{"dialogue": "a", "summary": "b"}\n', {34})
@example(b'{"dialogue": "a", "summary": "b"}\n{"dialogue": "a"}\n', {34})
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_pieces_of_json_lines_have_the_rows_of_the_whole(
    s3: Any, put: Callable[[str, bytes], None], data: bytes, places: set[int]
) -> None:
    put("pieces/a.jsonl", data)
    whole = whole_piece(s3, "pieces/a.jsonl")
    pieces = cut_piece(whole, places)
    assume(len(pieces) > 1)
    found: list[Row] = [row for piece in pieces for row in source(s3).rows(piece)]
    try:
        assert found == list(source(s3).rows(whole))
    except Refused as refusal:
        assert "has no column" in str(refusal)
        assert all(problem for _, _, problem in found), "the pieces have no fit row either"
    assert len(found) == data.count(b"\n") + (not data.endswith(b"\n") and data != b"")


def test_a_piece_requests_only_its_own_bytes(s3: Any, put: Callable[[str, bytes], None]) -> None:
    row = b'{"dialogue": "a", "summary": "b"}\n'
    put("pieces/b.jsonl", row * 10)
    piece = whole_piece(s3, "pieces/b.jsonl")._replace(start=5 * len(row))
    counting = CutS3(s3, [])
    assert len(list(source(counting).rows(piece))) == 5
    assert [request["Range"] for request in counting.requests] == [own := f"bytes={5 * len(row) - 1}-"]
    counting = CutS3(s3, [])
    # Without a format, the beginning of the file decides.
    dataset = prep_request(make_event("out/")["request"]).dataset
    assert len(list(DatasetFiles(dataset, None, counting).rows(piece))) == 5
    assert [request["Range"] for request in counting.requests] == [f"bytes=0-{10 * len(row) - 1}", own]
