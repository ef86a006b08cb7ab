"""Rules that must hold for any dataset, also with bad rows, both in one function and in shards that are cut anywhere."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import event as note_event
from hypothesis import strategies as st

from data_prep.handler import handler
from pipeline.catalogue import BASE_MODELS
from tests.unit.data_prep.conftest import BUCKET, keys, listed, make_event, records, with_bedrock
from tests.unit.data_prep.dirty import FORMATS, Dirty, Rows, as_read, breaks_a_rule, dirty_row, materialize
from tests.unit.data_prep.sharded import cut, prepare_in_shards, shards, with_output

if TYPE_CHECKING:
    from collections.abc import Callable

_runs = itertools.count()
CLEAN = 250
"""Clean rows in the first file of train. They are enough for Bedrock's minimum of 100, and for rows in every split."""

file = st.tuples(st.sampled_from(sorted(FORMATS)), st.lists(dirty_row, max_size=12))
SPLITS = ("train", "validation", "test")


class DirtyDataset:
    """Files in S3, with their rows and the event for them."""

    def __init__(self, files: dict[str, list[tuple[str, list[Dirty]]]], put: Callable[[str, bytes], None]) -> None:
        self.folder = f"dirty/{next(_runs)}/"
        self.rows: dict[str, Rows] = {}
        self.names: dict[str, list[str]] = {}
        earlier: Rows = []
        for split in ("test", "validation", "train"):
            for number, (suffix, dirty) in enumerate(files.get(split, [])):
                name = f"{self.folder}{split}-{number}.{suffix}"
                clean = 0 if number else CLEAN if split == "train" else 30
                rows = materialize(dirty, f"{split} {number}", clean, earlier)
                earlier += rows
                put(name, FORMATS[suffix](rows))
                self.rows[name] = as_read(rows, suffix)
                self.names.setdefault(split, []).append(name)

    def event(self, **dataset: Any) -> dict[str, Any]:
        event = make_event(self.folder + "out/", f"s3://{BUCKET}/{self.folder}", self.names, **dataset)
        event["request"]["max_tokens"] = 250
        return event


@given(
    held_out=st.dictionaries(
        st.sampled_from(["validation", "test"]), st.lists(file, min_size=1, max_size=2), max_size=2
    ),
    train=st.lists(file, min_size=1, max_size=3),
    base_model=st.sampled_from([None, *sorted(BASE_MODELS)]),
    max_rows=st.fixed_dictionaries({split: st.none() | st.integers(1, 200) for split in SPLITS}),
    seed=st.integers(0, 3),
    places=st.sets(st.sampled_from([n / 97 for n in range(1, 97)]), min_size=1, max_size=5),
    groups=st.sets(st.integers(1, 12), min_size=3, max_size=12),
)
@settings(
    max_examples=40,
    deadline=None,
    # To shrink a failing example of a whole run takes minutes, and the result tells little more than the first example.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_rows_add_up_outputs_are_fit_and_shards_write_the_same_files(
    s3: Any,
    put: Callable[[str, bytes], None],
    get: Callable[[str], bytes],
    held_out: dict[str, list[tuple[str, list[Dirty]]]],
    train: list[tuple[str, list[Dirty]]],
    base_model: str | None,
    max_rows: dict[str, int | None],
    seed: int,
    places: set[float],
    groups: set[int],
) -> None:
    dataset = DirtyDataset({**held_out, "train": train}, put)
    event = listed(dataset.event(max_rows=max_rows, seed=seed))
    if base_model:
        event = with_bedrock(event, base_model, 105)
    folder = dataset.folder + "out/"

    def outputs(below: str = "") -> dict[str, bytes]:
        found = keys(s3, folder + below)
        return {name: get(folder + below + name) for name in found if below or not name.startswith("again/")}

    answer = handler(event, None)
    written = outputs()

    # Shards that are cut anywhere write the same bytes, and give the same refusal.
    other = with_output(event, "again/")
    cut_up = shards(cut(event["pieces"], places), groups)
    note_event(
        f"{'one' if len(cut_up) == 1 else 'several'} shards, {'prepared' if answer['refused'] is None else 'refused'}"
    )
    answer_of_shards = prepare_in_shards(other, cut_up)
    assert json.dumps(answer_of_shards) == json.dumps(answer).replace(folder, folder + "again/")
    assert outputs("again/") == written

    # A second run writes the same bytes.
    assert handler(event, None) == answer
    assert outputs() == written

    if answer["refused"] is not None:
        assert f"needs {BASE_MODELS[str(base_model)].min_records} records" in answer["refused"], (
            "nothing else can be refused here"
        )
        assert any(max_rows.values())
        assert set(written) == {"rejected.jsonl"}
        return
    check_accounts(dataset.rows, written, answer, sampled={split for split, rows in max_rows.items() if rows})
    if base_model:
        check_bedrock(written, base_model)


def check_accounts(rows: dict[str, Rows], written: dict[str, bytes], answer: dict[str, Any], sampled: set[str]) -> None:
    """Check that each row is in an output, rejected or left out by max_rows, and that the outputs have no other rows."""
    manifest = json.loads(written["manifest.json"])
    lines = records(written["rejected.jsonl"])
    rejected = {(line["file"], line["row"]): line["reason"] for line in lines if line["from"] == "all"}

    # accepted + rejected = read, per file and in all.
    assert {file["name"] for file in manifest["files"]} == set(rows)
    for file in manifest["files"]:
        assert file["read"] == len(rows[file["name"]])
        assert file["rejected"] == sum(name == file["name"] for name, _ in rejected)
        assert file["accepted"] + file["rejected"] == file["read"]
    accepted = sum(split["accepted"] for split in manifest["splits"].values())
    assert accepted + len(rejected) == sum(map(len, rows.values()))
    assert answer["counts"]["rejected"] == len(rejected) == sum(answer["rejected"].values())

    # No rejected text is in an output. Every row that is neither rejected nor left out by max_rows is in one.
    chats = {
        split: [
            tuple(message["content"] for message in record["messages"][1:])
            for record in records(written[f"{split}/{split}.jsonl"])
        ]
        for split in SPLITS
    }
    found = set(itertools.chain(*chats.values()))
    for name, file_rows in rows.items():
        for number, (dialogue, summary) in enumerate(file_rows, 1):
            reason = rejected.get((name, number))
            if not isinstance(dialogue, str) or not isinstance(summary, str):
                assert reason is not None
                continue
            texts = tuple(one.replace("\r\n", "\n").replace("\r", "\n") for one in (dialogue, summary))
            if reason is None:
                assert texts in found or sampled
            elif reason.startswith("same dialogue in "):
                assert not any(texts in chats[split] for split in SPLITS if split != reason.rpartition(" ")[2])
            elif not reason.startswith("duplicate"):
                assert texts not in found
    assert len(found) == sum(map(len, chats.values())), "the outputs have no duplicates"
    for split in SPLITS:
        assert len(chats[split]) == answer["counts"][split] == manifest["splits"][split]["written"]
        left_out = manifest["splits"][split]["left_out_by_max_rows"]
        assert manifest["splits"][split]["accepted"] == len(chats[split]) + left_out
        assert not left_out or split in sampled
    dialogues = {split: {dialogue for dialogue, _ in chats[split]} for split in SPLITS}
    for one, two in itertools.combinations(SPLITS, 2):
        assert not dialogues[one] & dialogues[two]


def check_bedrock(written: dict[str, bytes], base_model: str) -> None:
    """Check that each Bedrock record passes Bedrock's rules, and that their number is within the limits."""
    model = BASE_MODELS[base_model]
    drawn = [records(written[f"bedrock/{split}.jsonl"]) for split in ("train", "validation")]
    assert model.min_records <= sum(map(len, drawn)) <= 105
    assert all(drawn)
    for record in itertools.chain(*drawn):
        assert breaks_a_rule(record, model) is None
