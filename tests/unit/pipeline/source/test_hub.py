"""A file is read whole from the Hub over a real connection, no other host gets the token, and each failure is named."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import pytest

from pipeline.errors import Refused, SourceUnavailable
from pipeline.source.hub import INTERRUPTIONS, HubFile
from pipeline.source.stream import ATTEMPTS, MAX_WAIT_SECONDS, ResumingStream
from tests.hub_server import HubAnswer, HubServer

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = "/datasets/own/set/resolve/abc/train.csv"
BODY = random.Random(0).randbytes(1_024_000)
TOKEN = "hf_secret"


@pytest.fixture
def other() -> Iterator[HubServer]:
    """A second host, like the Hub's storage of large files."""
    with HubServer() as server:
        yield server


def read(hub: HubServer, token: str | None = None, waits: list[float] | None = None) -> bytes:
    file = HubFile(hub.url, "own/set", "abc", "train.csv", token)
    sleep = (lambda seconds: None) if waits is None else waits.append
    return ResumingStream("train.csv", file.open_at, INTERRUPTIONS, sleep).buffered().read()


def refusal(hub: HubServer, token: str | None = None) -> str:
    with pytest.raises(Refused) as caught:
        read(hub, token)
    assert len(hub.seen) == 1, "a refusal must not be tried again"
    assert TOKEN not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_arrives_whole_at_its_revision(hub: HubServer) -> None:
    hub.answers[PATH] = [HubAnswer(body=BODY)]
    assert read(hub, TOKEN) == BODY
    assert [(seen.path, seen.authorization) for seen in hub.seen] == [(PATH, f"Bearer {TOKEN}")]


def test_names_are_quoted_in_the_address(hub: HubServer) -> None:
    hub.answers["/datasets/own/set/resolve/refs%2Fpr%2F1/a%20b/t%23.csv"] = [HubAnswer(body=b"x")]
    file = HubFile(hub.url + "/", "own/set", "refs/pr/1", "a b/t#.csv", None)
    assert file.open_at(0).body.read(10) == b"x"


def test_a_redirect_within_the_hub_keeps_the_token(hub: HubServer) -> None:
    hub.answers[PATH] = [HubAnswer(307, headers={"Location": "/datasets/new/set/resolve/abc/train.csv"})]
    hub.answers["/datasets/new/set/resolve/abc/train.csv"] = [HubAnswer(body=BODY)]
    assert read(hub, TOKEN) == BODY
    assert [seen.authorization for seen in hub.seen] == [f"Bearer {TOKEN}"] * 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_drops_the_token(hub: HubServer, other: HubServer, status: int) -> None:
    hub.answers[PATH] = [HubAnswer(status, headers={"Location": f"{other.url}/blob?sig=1"})]
    other.answers["/blob?sig=1"] = [HubAnswer(body=BODY)]
    assert read(hub, TOKEN) == BODY
    assert [seen.authorization for seen in hub.seen] == [f"Bearer {TOKEN}"]
    assert [seen.authorization for seen in other.seen] == [None]


def test_the_token_stays_dropped_when_another_host_redirects_back_to_the_hub(hub: HubServer, other: HubServer) -> None:
    hub.answers[PATH] = [HubAnswer(302, headers={"Location": f"{other.url}/back"})]
    other.answers["/back"] = [HubAnswer(302, headers={"Location": f"{hub.url}/elsewhere"})]
    hub.answers["/elsewhere"] = [HubAnswer(body=BODY)]
    assert read(hub, TOKEN) == BODY
    assert [seen.authorization for seen in hub.seen] == [f"Bearer {TOKEN}", None]


def test_a_cut_connection_resumes_where_it_was_cut(hub: HubServer, other: HubServer) -> None:
    hub.answers[PATH] = [HubAnswer(302, headers={"Location": f"{other.url}/blob"})]
    other.answers["/blob"] = [
        HubAnswer(body=BODY, cut=300_000),
        HubAnswer(body=BODY, cut=400_000),
        HubAnswer(body=BODY),
    ]
    assert read(hub) == BODY
    assert other.seen[0].range is None
    starts = [int((seen.range or "").removeprefix("bytes=").removesuffix("-")) for seen in other.seen[1:]]
    assert 0 < starts[0] <= 300_000 < starts[1] <= 700_000


def test_a_part_is_requested_and_resumed_up_to_its_own_end(hub: HubServer) -> None:
    hub.answers[PATH] = [HubAnswer(body=BODY, cut=300_000), HubAnswer(body=BODY)]
    file = HubFile(hub.url, "own/set", "abc", "train.csv", None)
    part = ResumingStream(
        "train.csv", lambda offset: file.open_at(offset, 900_000), INTERRUPTIONS, lambda seconds: None, start=100_000
    )
    assert part.buffered().read() == BODY[100_000:900_000]
    first, second = (seen.range or "" for seen in hub.seen)
    assert first == "bytes=100000-899999"
    start, last = second.removeprefix("bytes=").split("-")
    assert 100_000 < int(start) <= 400_000
    assert last == "899999"


def test_a_server_without_ranges_is_read_again_from_the_start(hub: HubServer) -> None:
    hub.answers[PATH] = [HubAnswer(body=BODY, cut=300_000), HubAnswer(body=BODY, ranges=False)]
    assert read(hub) == BODY


def test_a_file_whose_connection_is_always_cut_is_an_error(hub: HubServer) -> None:
    hub.answers[PATH] = [HubAnswer(body=BODY[:1000], headers={"Content-Length": "1200"}, cut=1000, ranges=False)]
    with pytest.raises(SourceUnavailable, match=r"train.csv: .*1000 of 1200 bytes; gave up after 5 tries"):
        read(hub)
    assert len(hub.seen) == ATTEMPTS


def test_another_length_than_the_hub_states_is_an_error(hub: HubServer, other: HubServer) -> None:
    linked = {"Location": f"{other.url}/blob", "X-Linked-Size": "1024000"}
    hub.answers[PATH] = [HubAnswer(302, headers=linked)]
    other.answers["/blob"] = [HubAnswer(body=BODY[:-1])]
    with pytest.raises(SourceUnavailable, match="offers 1023999 bytes, but the file has 1024000"):
        read(hub)


def test_other_bytes_than_the_hub_states_are_an_error(hub: HubServer, other: HubServer) -> None:
    digest = hashlib.sha256(BODY).hexdigest()
    linked = {"Location": f"{other.url}/blob", "X-Linked-Size": "1024000", "X-Linked-Etag": f'"{digest}"'}
    hub.answers[PATH] = [HubAnswer(302, headers=linked)]
    other.answers["/blob"] = [HubAnswer(body=BODY)]
    assert read(hub) == BODY
    other.answers["/blob"] = [HubAnswer(body=b"?" + BODY[1:])]
    with pytest.raises(SourceUnavailable, match="SHA-256"):
        read(hub)


def test_a_file_that_changes_between_two_tries_is_an_error(hub: HubServer) -> None:
    hub.answers[PATH] = [HubAnswer(body=BODY, cut=300_000), HubAnswer(body=BODY + b"more")]
    with pytest.raises(SourceUnavailable, match="changed"):
        read(hub)


def test_a_length_that_is_not_stated_is_not_trusted(hub: HubServer) -> None:
    hub.answers[PATH] = [HubAnswer(body=BODY, headers={"Content-Length": ""})]
    with pytest.raises(SourceUnavailable, match="states no length"):
        read(hub)


def test_a_chunked_answer_is_read_to_its_marked_end(hub: HubServer) -> None:
    chunked = {"Content-Length": "", "Transfer-Encoding": "chunked"}
    hub.answers[PATH] = [HubAnswer(body=b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", headers=chunked)]
    assert read(hub) == b"abcde"
    hub.answers[PATH] = [HubAnswer(body=b"3\r\nabc\r\n2\r\nd", headers=chunked, ranges=False)]
    with pytest.raises(SourceUnavailable):
        read(hub)


def test_more_bytes_than_stated_are_an_error(hub: HubServer, other: HubServer) -> None:
    hub.answers[PATH] = [HubAnswer(302, headers={"Location": f"{other.url}/blob", "X-Linked-Size": "4"})]
    chunked = {"Content-Length": "", "Transfer-Encoding": "chunked"}
    other.answers["/blob"] = [HubAnswer(body=b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", headers=chunked)]
    with pytest.raises(SourceUnavailable, match="more bytes than the 4 that"):
        read(hub)


def test_an_empty_file_is_empty(hub: HubServer) -> None:
    hub.answers[PATH] = [HubAnswer()]
    assert read(hub) == b""


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_an_error_that_may_pass_is_tried_again(hub: HubServer, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.source.stream.FIRST_WAIT_SECONDS", 1.0)
    hub.answers[PATH] = [HubAnswer(status), HubAnswer(status), HubAnswer(body=BODY)]
    waits: list[float] = []
    assert read(hub, waits=waits) == BODY
    assert waits == [1, 2]


def test_retry_after_is_respected_up_to_the_longest_wait(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.source.stream.FIRST_WAIT_SECONDS", 1.0)
    limited = [HubAnswer(429, headers={"Retry-After": seconds}) for seconds in ("7", "9999", "Wed, 21 Oct 2026")]
    hub.answers[PATH] = [*limited, HubAnswer(body=BODY)]
    waits: list[float] = []
    assert read(hub, waits=waits) == BODY
    assert waits == [7, MAX_WAIT_SECONDS, 4]


def test_an_error_that_does_not_pass_is_raised_with_the_status(hub: HubServer) -> None:
    hub.answers[PATH] = [HubAnswer(503)]
    with pytest.raises(SourceUnavailable, match=r"train.csv: the Hub answered 503; gave up after 5 tries"):
        read(hub)


def test_a_hub_out_of_reach_is_named() -> None:
    with HubServer() as gone:
        pass
    with pytest.raises(SourceUnavailable, match=r"127.0.0.1:\d+ cannot be reached .*refused"):
        read(gone)


def test_401_without_a_token_says_that_one_is_required(hub: HubServer) -> None:
    hub.answers[PATH] = [HubAnswer(401)]
    line = refusal(hub)
    assert "hub:own/set" in line
    assert "requires a token (401)" in line
    assert f"{hub.url}/datasets/own/set" in line


def test_401_with_a_token_says_that_it_was_refused(hub: HubServer) -> None:
    hub.answers[PATH] = [HubAnswer(401)]
    assert "refused the token (401); put a valid one into the secret" in refusal(hub, TOKEN)


def test_403_asks_to_accept_the_terms(hub: HubServer) -> None:
    hub.answers[PATH] = [HubAnswer(403)]
    assert f"(403); accept the terms at {hub.url}/datasets/own/set" in refusal(hub, TOKEN)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("RepoNotFound", "no such dataset"),
        ("RevisionNotFound", "no revision 'abc'"),
        ("EntryNotFound", "no file 'train.csv' at revision 'abc'"),
        ("", "no file 'train.csv' at revision 'abc'"),
    ],
)
def test_404_says_what_does_not_exist(hub: HubServer, code: str, expected: str) -> None:
    hub.answers[PATH] = [HubAnswer(404, headers={"X-Error-Code": code})]
    assert expected in refusal(hub)


def test_another_error_is_refused_with_its_status(hub: HubServer) -> None:
    hub.answers[PATH] = [HubAnswer(451)]
    assert "the Hub answered 451" in refusal(hub)


def test_a_redirect_away_from_http_is_not_followed(hub: HubServer) -> None:
    hub.answers[PATH] = [HubAnswer(302, headers={"Location": "ftp://127.0.0.1/train.csv"})]
    assert "redirects from http to ftp" in refusal(hub)
