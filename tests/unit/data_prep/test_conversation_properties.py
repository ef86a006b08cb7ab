"""Rules that must hold for any conversations, both in one function and in shards that are cut anywhere."""

from __future__ import annotations

import io
import itertools
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from data_prep.handler import handler
from tests.unit.data_prep.conftest import BUCKET, LLAMA, NOVA, keys, listed, make_event, records, with_bedrock
from tests.unit.data_prep.dirty import WORDS
from tests.unit.data_prep.sharded import cut, prepare_in_shards, shards, with_output
from tests.unit.data_prep.test_aws_validators import validate
from tests.unit.data_prep.test_conversations import GOOD_MARKS, SPLITS, ListOfTurns, jsonl, lf, turns
from training.messages import read_row

if TYPE_CHECKING:
    from collections.abc import Callable

_runs = itertools.count()

word = st.lists(st.sampled_from(WORDS) | st.text(max_size=4), min_size=1, max_size=4).map(" ".join)
content = st.one_of(
    word,
    word,
    word,
    st.sampled_from(["", "\n", None, 5, ["a"], ":-)", "too long " * 200]),
    word.map(lambda one: one + "\ud800"),
)
bad_marks = st.text("suat", max_size=6)
conversation = (GOOD_MARKS | GOOD_MARKS | bad_marks).flatmap(
    lambda marks: st.tuples(st.just(marks), st.lists(content, min_size=len(marks), max_size=len(marks)))
)
dirty_rows = st.lists(conversation | st.integers(0, 400), max_size=15)


def made(dirty: list[Any], name: str, clean: int, earlier: list[ListOfTurns]) -> list[ListOfTurns]:
    """Return `clean` good conversations and the dirty ones. A number is a copy of an earlier row."""
    rows = [
        turns(("sua", "ua", "suaua")[n % 3], *[f"hello [{name} {n} {turn}]" for turn in range((3, 2, 5)[n % 3])])
        for n in range(clean)
    ]
    for one in dirty:
        if isinstance(one, int):
            known = [*earlier, *rows]
            rows.append(known[one % len(known)] if known else turns("ua", "x", "y"))
        else:
            marks, texts = one
            unique = [
                f"{text} [{name} {len(rows)}]" if isinstance(text, str) and text.strip() else text for text in texts
            ]
            rows.append(turns(marks, *unique))
    return rows


def as_parquet(rows: list[ListOfTurns]) -> bytes | None:
    """Return Parquet, which has no lone surrogates and one type per column; None if it cannot have the rows."""
    try:
        column = pa.array(rows, pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))
    except (pa.ArrowException, UnicodeEncodeError):
        return None
    out = io.BytesIO()
    pq.write_table(pa.table({"messages": column}), out, row_group_size=20)
    return out.getvalue()


@given(
    held_out=st.none() | dirty_rows,
    train=st.lists(dirty_rows, min_size=1, max_size=2),
    columnar=st.booleans(),
    base_model=st.sampled_from([None, LLAMA, NOVA]),
    max_rows=st.fixed_dictionaries({split: st.none() | st.integers(10, 200) for split in SPLITS}),
    learn=st.sampled_from(["all", "last"]),
    places=st.sets(st.sampled_from([n / 97 for n in range(1, 97)]), min_size=1, max_size=4),
    groups=st.sets(st.integers(1, 9), min_size=2, max_size=9),
)
@settings(
    max_examples=15,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_conversations_add_up_and_shards_write_the_same_files(
    s3: Any,
    put: Callable[[str, bytes], None],
    get: Callable[[str], bytes],
    held_out: list[Any] | None,
    train: list[list[Any]],
    columnar: bool,
    base_model: str | None,
    max_rows: dict[str, int | None],
    learn: str,
    places: set[float],
    groups: set[int],
) -> None:
    folder = f"chats/{next(_runs)}/"
    rows: dict[str, list[ListOfTurns]] = {}
    names: dict[str, list[str]] = {}
    earlier: list[ListOfTurns] = []
    for split, files in (("test", [held_out] if held_out is not None else []), ("train", train)):
        for number, dirty in enumerate(files):
            found = made(dirty, f"{split} {number}", 0 if number else 250 if split == "train" else 30, earlier)
            body = as_parquet(found) if columnar else None
            name = f"{folder}{split}-{number}.{'parquet' if body else 'jsonl'}"
            put(name, body or jsonl([{"messages": row} for row in found]))
            rows[name] = found
            names.setdefault(split, []).append(name)
            earlier += found
    # The format is set, because a file of dirty rows alone may fit none.
    dataset = {"max_rows": max_rows, "learn": learn, "format": "messages"}
    event = listed(make_event(folder + "out/", f"s3://{BUCKET}/{folder}", names, **dataset))
    event["request"]["max_tokens"] = 250
    if base_model:
        event = with_bedrock(event, base_model, 105)

    def outputs(below: str = "") -> dict[str, bytes]:
        found = keys(s3, f"{folder}out/{below}")
        return {name: get(f"{folder}out/{below}{name}") for name in found if below or not name.startswith("again/")}

    answer = handler(event, None)
    written = outputs()
    answer_of_shards = prepare_in_shards(with_output(event, "again/"), shards(cut(event["pieces"], places), groups))
    assert json.dumps(answer_of_shards) == json.dumps(answer).replace(f"{folder}out/", f"{folder}out/again/")
    assert outputs("again/") == written
    if answer["refused"] is not None:
        assert answer["refused"].startswith("bedrock: ")
        return

    rejected = {
        (line["file"], line["row"]): line["reason"]
        for line in records(written["rejected.jsonl"])
        if line["from"] == "all"
    }
    manifest = json.loads(written["manifest.json"])
    for file in manifest["files"]:
        assert file["accepted"] + file["rejected"] == file["read"] == len(rows[file["name"]])
        assert file["rejected"] == sum(name == file["name"] for name, _ in rejected)
    assert sum(split["accepted"] for split in manifest["splits"].values()) + len(rejected) == sum(
        map(len, rows.values())
    )
    lines = {split: written[f"{split}/{split}.jsonl"].splitlines(keepends=True) for split in SPLITS}
    found_rows = {
        split: {tuple((turn["role"], turn["content"]) for turn in read_row(line)) for line in lines[split]}
        for split in SPLITS
    }
    for split in SPLITS:
        assert len(lines[split]) == len(found_rows[split]) == answer["counts"][split], "the outputs have no duplicates"
        for line in lines[split]:
            marks = [turn["learned"] for turn in read_row(line) if turn["role"] == "assistant"]
            assert marks[-1]
            assert all(marks) if learn == "all" else not any(marks[:-1])
    everything = set().union(*found_rows.values())
    for name, file_rows in rows.items():
        for number, row in enumerate(file_rows, 1):
            reason = rejected.get((name, number))
            fit = all(isinstance(turn["content"], str) for turn in row)
            texts = tuple((turn["role"], lf(turn["content"])) for turn in row) if fit else None
            if reason is None:
                assert texts in everything or any(max_rows.values())
            elif not reason.startswith(("duplicate", "same dialogue in ")):
                assert texts not in everything
    dialogues = {
        split: {tuple(text for role, text in row[:-1] if role != "system") for row in found_rows[split]}
        for split in SPLITS
    }
    for one, two in itertools.combinations(SPLITS, 2):
        assert not dialogues[one] & dialogues[two]
    if base_model:
        for kind in ("train", "validation"):
            validate(base_model, kind, written[f"bedrock/{kind}.jsonl"])
