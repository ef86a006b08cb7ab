"""What holds for any input, however dirty. Bedrock's rules are written here anew, apart from the product's."""

from __future__ import annotations

import csv
import io
import itertools
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from data_prep.handler import handler
from pipeline.catalogue import BASE_MODELS, BaseModel
from tests.unit.data_prep.conftest import BUCKET, keys, make_event, records, with_bedrock

if TYPE_CHECKING:
    from collections.abc import Callable

_runs = itertools.count()
CLEAN = 250
"""Clean rows in each input, so that Bedrock's minimum of 100 is met and every split has some."""

WORDS = [
    "hi",
    "User:",
    "[EOS]",
    "Assistant:",
    "<image>",
    "😀",
    "naïve",
    '"',
    ",",
    "\r\n",
    "\n",
    "\r",
    "\x00",
    "\u2028",
    "x" * 500,
]
text = st.lists(st.sampled_from(WORDS) | st.text(max_size=5), min_size=1, max_size=6).map(" ".join)
blank = st.sampled_from(["", " ", "\n", "\r\n\t", "\u3000"])
broken = text.map(lambda one: one + "\ud800")
not_text = st.none() | st.integers(-9, 9) | st.booleans() | st.lists(st.text(max_size=3), max_size=2)


class Dirty(NamedTuple):
    """A row to be; `copy_of` repeats the dialogue, or both texts, of an earlier row."""

    dialogue: Any
    summary: Any
    copy_of: int | None = None
    copy_summary: bool = False


dirty_row = st.one_of(
    st.builds(Dirty, text, text),
    st.builds(Dirty, blank | broken | not_text, text),
    st.builds(Dirty, text, blank | broken | not_text),
    st.builds(Dirty, text, text, st.integers(0, 280), st.booleans()),
)


def materialize(dirty: list[Dirty], split: str) -> list[tuple[Any, Any]]:
    """Rows with their number in every text, so that a text found in an output can be told to be its row's."""
    rows: list[tuple[Any, Any]] = [(f"A: hello [{split} {n}]", f"hello [{split} {n}]") for n in range(CLEAN)]
    for row in dirty:
        dialogue, summary = (
            f"{value} [{split} {len(rows)}]" if isinstance(value, str) and value.strip() else value for value in row[:2]
        )
        if row.copy_of is not None:
            original = rows[row.copy_of % len(rows)]
            dialogue = original[0]
            summary = original[1] if row.copy_summary else summary
        rows.append((dialogue, summary))
    return rows


def as_jsonl(rows: list[tuple[Any, Any]]) -> bytes:
    """JSON Lines; a lone surrogate becomes its escape, which JSON can write."""
    return b"".join(json.dumps({"summary": s, "dialogue": d}).encode() + b"\n" for d, s in rows)


def cell(value: Any) -> str:
    """What the csv module writes of a value: CSV knows texts alone."""
    return "" if value is None else str(value)


def as_csv(rows: list[tuple[Any, Any]]) -> bytes:
    """CSV with a BOM; a lone surrogate becomes bytes that are no UTF-8."""
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([("dialogue", "summary"), *rows])
    return b"\xef\xbb\xbf" + out.getvalue().encode("utf-8", "surrogatepass")


def breaks_a_rule(record: Any, model: BaseModel) -> str | None:
    """Bedrock's documented rules (user guide, "Prepare data for fine-tuning text-to-text models")."""
    if model.format == "prompt_completion":
        if set(record) != {"prompt", "completion"}:
            return "fields"
        texts = [record["prompt"], record["completion"]]
    else:
        if record["schemaVersion"] != "bedrock-conversation-2024":
            return "schemaVersion"
        if [message["role"] for message in record["messages"]] != ["user", "assistant"]:
            return "roles"
        blocks = [
            *record["system"],
            *(block for message in record["messages"] for block in message["content"]),
        ]
        texts = [block["text"] for block in blocks]
    if not all(isinstance(one, str) and one.strip() for one in texts):
        return "blank text"
    if any(word in one for word in model.forbidden for one in texts):
        return "forbidden word"
    return "length" if sum(map(len, texts)) / 6 > model.max_tokens_per_record else None


@given(
    files=st.dictionaries(st.sampled_from(["validation", "test"]), st.lists(dirty_row, max_size=8), max_size=2),
    train=st.lists(dirty_row, max_size=25),
    write=st.sampled_from([as_csv, as_jsonl]),
    base_model=st.sampled_from(sorted(BASE_MODELS)),
    max_rows=st.none() | st.integers(1, 200),
    seed=st.integers(0, 3),
)
@settings(
    max_examples=25,
    deadline=None,
    # Shrinking a failure of a whole run takes minutes and says little more than the first example.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_every_row_is_accounted_for_and_every_output_is_fit(
    s3: Any,
    put: Callable[[str, bytes], None],
    get: Callable[[str], bytes],
    files: dict[str, list[Dirty]],
    train: list[Dirty],
    write: Callable[[list[tuple[Any, Any]]], bytes],
    base_model: str,
    max_rows: int | None,
    seed: int,
) -> None:
    folder = f"dirty/{next(_runs)}/"
    suffix = "csv" if write is as_csv else "jsonl"
    rows = {split: materialize(dirty, split) for split, dirty in {**files, "train": train}.items()}
    if write is as_csv:
        rows = {split: [(cell(d), cell(s)) for d, s in written] for split, written in rows.items()}
    for split, written in rows.items():
        put(f"{folder}{split}.{suffix}", write(written))
    event = make_event(
        folder + "out/",
        f"s3://{BUCKET}/{folder}",
        files={split: f"{split}.{suffix}" for split in rows},
        max_rows={"validation": max_rows},
        seed=seed,
    )
    event = with_bedrock(event, base_model, 105)

    answer = handler(event, None)
    assert answer["refused"] is None, answer
    outputs = {name: get(folder + "out/" + name) for name in keys(s3, folder + "out/")}
    manifest = json.loads(outputs["manifest.json"])
    kept_out = records(outputs["rejected.jsonl"])
    rejected = {(line["file"], line["row"]): line["reason"] for line in kept_out if line["from"] == "all"}

    # accepted + rejected = read, a file and overall.
    for file in manifest["files"]:
        assert file["read"] == len(rows[file["name"].split(".")[0]])
        assert file["accepted"] + file["rejected"] == file["read"]
    accepted = sum(split["accepted"] for split in manifest["splits"].values())
    assert accepted + len(rejected) == sum(map(len, rows.values()))
    assert answer["counts"]["rejected"] == len(rejected) == sum(answer["rejected"].values())

    # No rejected text reaches an output; a row neither rejected nor left out by max_rows does.
    chats = {
        split: [
            tuple(message["content"] for message in record["messages"][1:])
            for record in records(outputs[f"{split}/{split}.jsonl"])
        ]
        for split in ("train", "validation", "test")
    }
    found = set(itertools.chain(*chats.values()))
    for split, written in rows.items():
        for number, (dialogue, summary) in enumerate(written, 1):
            reason = rejected.get((f"{split}.{suffix}", number))
            if not isinstance(dialogue, str) or not isinstance(summary, str):
                assert reason is not None
                continue
            texts = tuple(one.replace("\r\n", "\n").replace("\r", "\n") for one in (dialogue, summary))
            if reason is None:
                assert texts in found or max_rows is not None
            elif not reason.startswith("duplicate"):
                assert texts not in found
    assert len(found) == sum(map(len, chats.values())), "no duplicates"
    held_out = {dialogue for split in ("validation", "test") for dialogue, _ in chats[split]}
    assert not held_out & {dialogue for dialogue, _ in chats["train"]}
    assert not {dialogue for dialogue, _ in chats["validation"]} & {dialogue for dialogue, _ in chats["test"]}

    # Any accepted row passes Bedrock's rules.
    model = BASE_MODELS[base_model]
    drawn = [records(outputs[f"bedrock/{split}.jsonl"]) for split in ("train", "validation")]
    assert model.min_records <= sum(map(len, drawn)) <= 105
    assert all(drawn)
    for record in itertools.chain(*drawn):
        assert breaks_a_rule(record, model) is None

    # A re-run is byte-identical.
    assert handler(event, None) == answer
    assert {name: get(folder + "out/" + name) for name in keys(s3, folder + "out/")} == outputs
