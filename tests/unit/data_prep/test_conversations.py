"""Conversations of any length through data prep: the rules that hold for any rows, and equal files from each format."""

from __future__ import annotations

import gzip
import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_128_digest

from data_prep import outputs
from data_prep.checks import BATCH_ROWS, Checks
from data_prep.handler import handler
from data_prep.row_formats import Conversation, RowFormats
from pipeline.contracts.data import Fields
from tests.unit.data_prep.conftest import (
    BUCKET,
    INSTRUCTION,
    LLAMA,
    NOVA,
    csv_bytes,
    keys,
    listed,
    make_event,
    prep_request,
    prepared,
    records,
    refusal,
    with_bedrock,
)
from tests.unit.data_prep.sharded import cut, prepare_in_shards, shards, with_output
from tests.unit.data_prep.test_aws_validators import PROMPTS, validate
from training.messages import read_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from data_prep.checks import Checked
    from data_prep.row_formats import Row

SPLITS = ("train", "validation", "test")
ROLES = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
_runs = itertools.count()
ListOfTurns = list[dict[str, Any]]


def turns(marks: str, *texts: Any) -> ListOfTurns:
    return [{"role": ROLES[mark], "content": text} for mark, text in zip(marks, texts, strict=True)]


def lf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def jsonl(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


# The same dialogues in each format.

TEXTS = [(f"Ann: Is number {n} free?\nBob: Sure 😀", f"Bob tells Ann that {n} is free.") for n in range(120)]
WHOLE = [turns("sua", INSTRUCTION, *texts) for texts in TEXTS]
OPENAI = {"system": "system", "user": "human", "assistant": "gpt"}
SAME: dict[str, tuple[str, bytes]] = {
    "messages": ("data.jsonl", jsonl([{"messages": row} for row in WHOLE])),
    "messages below a key": ("data.json", json.dumps({"rows": [{"messages": row} for row in WHOLE]}).encode()),
    "sharegpt": (
        "data.json",
        json.dumps(
            [
                {"conversations": [{"from": OPENAI[turn["role"]], "value": turn["content"]} for turn in row]}
                for row in WHOLE
            ]
        ).encode(),
    ),
    "prompt_completion": ("data.jsonl", jsonl([{"prompt": row[:2], "completion": row[2:]} for row in WHOLE])),
    "instruction": (
        "data.csv",
        csv_bytes([(INSTRUCTION, *texts) for texts in TEXTS], ("instruction", "input", "output")),
    ),
    "instruction in lines": (
        "data.jsonl.gz",
        gzip.compress(jsonl([{"instruction": INSTRUCTION, "input": one, "output": two} for one, two in TEXTS])),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_dialogues_give_the_same_bytes_in_each_format(
    s3: Any, output: str, put: Callable[[str, bytes], None], get: Callable[[str], bytes], name: str
) -> None:
    def files(file: str, body: bytes) -> dict[str, bytes]:
        put(f"{output}in/{file}", body)
        sampled = {"train": 70, "validation": None, "test": 9}
        event = make_event(output, f"s3://{BUCKET}/{output}in/{file}", max_rows=sampled)
        answer = prepared(with_bedrock(event, NOVA, 60))
        assert answer["formats"] == {name.split()[0] if file != "two.csv" else "columns": 1}
        assert json.loads(get(output + "manifest.json"))["system"] == INSTRUCTION
        found = keys(s3, output)
        return {file: get(output + file) for file in found if file.endswith(".jsonl") and not file.startswith("in/")}

    assert files(*SAME[name]) == files("two.csv", csv_bytes(TEXTS, ("dialogue", "summary")))


def test_two_files_of_other_formats_are_one_dataset(
    output: str, put: Callable[[str, bytes], None], get: Callable[[str], bytes]
) -> None:
    half = len(TEXTS) // 2
    put(f"{output}in/a.csv", csv_bytes(TEXTS[:half], ("dialogue", "summary")))
    put(f"{output}in/b.jsonl", jsonl([{"messages": row} for row in [*WHOLE[half:], *WHOLE[:3]]]))
    files = {"train": [f"{output}in/a.csv", f"{output}in/b.jsonl"]}
    answer = prepared(make_event(output, f"s3://{BUCKET}/{output}in/", files))
    assert answer["formats"] == {"columns": 1, "messages": 1}
    assert answer["rejected"] == {"duplicate of an accepted row": 3}
    assert sum(answer["counts"][split] for split in SPLITS) == len(TEXTS)
    manifest = json.loads(get(output + "manifest.json"))
    assert [file["format"] for file in manifest["files"]] == ["columns", "messages"]


def test_several_columns_and_a_template_make_the_dialogue(
    output: str, put: Callable[[str, bytes], None], get: Callable[[str], bytes]
) -> None:
    rows = [(f"Who is {n}?", f"Number {n}.", f"It is {n}.") for n in range(60)]
    put("uploads/data.csv", csv_bytes([*rows, ("Who?", "", "Nobody.")], ("question", "context", "summary")))
    answer = prepared(make_event(output, prompt="{question}\n\n{context}"))
    assert answer["rejected"] == {"context is empty": 1}
    first = records(get(output + "train/train.jsonl"))[0]["messages"]
    number = first[2]["content"].removeprefix("It is ").rstrip(".")
    assert first[1]["content"] == f"Who is {number}?\n\nNumber {number}."


# What decides about a conversation.


def checks(learn: str = "all", base_model: str | None = None, max_tokens: int = 10_000, **dataset: Any) -> Checks:
    event = make_event("out/", learn=learn, **dataset)
    event["request"]["max_tokens"] = max_tokens
    return Checks(prep_request((with_bedrock(event, base_model) if base_model else event)["request"]))


def check(found: ListOfTurns, **options: Any) -> Checked:
    row = RowFormats(Fields("dialogue", "summary"), "messages").fallback.row(found)
    [result] = checks(**options).check([row])
    return result


def test_a_conversation_has_the_digests_of_its_dialogue_and_of_all_its_texts() -> None:
    [columns] = checks().check([("d", "s", None)])
    assert check(turns("sua", INSTRUCTION, "d", "s"))[3:] == columns[3:]
    bare, other = check(turns("ua", "d", "s")), check(turns("sua", "Other.", "d", "s"))
    assert bare[3:5] == other[3:5] == columns[3:5]
    assert len({bare[5], other[5], columns[5]}) == 3, "rows that differ in their system messages are no duplicates"
    long = check(turns("suaua", "x", "a", "b", "c", "d"))
    assert long[3] == xxh3_128_digest(b"a\0b\0c", 42)
    assert long[4] == xxh3_128_digest(b"a\0b\0c\0d", 42)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (turns("ua", "a", ":-)"), "the last answer has no letter or digit"),
        (turns("ua", "a\x00", "b"), "control character U+0000"),
        (turns("uaua", "a", "b\x1b", "c", "d"), "control character U+001B"),
        (turns("sua", "a\x85", "b", "c"), "control character U+0085"),
        (turns("ua", "a\ud800", "b"), "broken UTF-8 or a lone surrogate"),
        (turns("uaua", "x" * 20, "x" * 20, "x" * 10, "x" * 11), "longer than 10 tokens (estimated)"),
    ],
)
def test_each_turn_is_checked_as_a_text_is(found: ListOfTurns, reason: str) -> None:
    assert check(found, max_tokens=10) == (reason, False, None, b"", b"", b"", b"")


def test_line_ends_of_each_turn_become_lf() -> None:
    found = check(turns("suaua", "a\r\nb", "c\r", "\nd", "e", "f"))
    assert found[:2] == (None, True)
    assert [turn["content"] for turn in read_row(found[6])] == ["a\nb", "c\n", "\nd", "e", "f"]


def test_answers_without_words_may_stand_before_the_last() -> None:
    assert check(turns("uaua", "a", ":-)", "b", "c"))[0] is None


def test_a_conversation_that_is_cut_needs_room_for_its_last_exchange() -> None:
    long = turns("suaua", "x" * 20, "y" * 500, "y", "x" * 20, "x" * 20)
    assert check(long, max_tokens=10)[0] == "longer than 10 tokens (estimated)"
    assert check(long, max_tokens=10, cut_long=True)[0] is None
    assert check([*long[:-1], *turns("a", "x" * 21)], max_tokens=10, cut_long=True)[0] is not None


def test_bedrocks_prompts_take_one_exchange() -> None:
    several, system = turns("uaua", "a", "b", "c", "d"), turns("sua", "a", "b", "c")
    assert check(several, base_model=PROMPTS)[2] == "more than one exchange"
    assert check(several, base_model=LLAMA)[2] is None
    assert check(system, base_model=PROMPTS)[2] is None
    assert check(turns("uaua", "a", "User: b", "c", "d"), base_model=NOVA)[2] == "holds User:"
    assert check(turns("sua", "[EOS]", "b", "c"), base_model=NOVA)[2] == "holds [EOS]"


def test_the_manifest_has_the_system_message_that_all_rows_share(
    output: str, put: Callable[[str, bytes], None], get: Callable[[str], bytes]
) -> None:
    def system(*found: str | None) -> Any:
        rows = [
            turns("ua", str(n), f"answer {n}") if one is None else turns("sua", one, str(n), f"answer {n}")
            for n in range(60)
            for one in [found[n % len(found)]]
        ]
        put("uploads/chats.jsonl", jsonl([{"messages": row} for row in rows]))
        event = make_event(output, f"s3://{BUCKET}/uploads/chats.jsonl")
        event["request"]["max_tokens"] = 4096
        answer = prepared(event)
        in_manifest = json.loads(get(output + "manifest.json"))["system"]
        if in_manifest and len(in_manifest) > outputs.MOST_SYSTEM:
            assert answer["system"] is None
            (warning,) = answer["warnings"]
            assert warning.startswith("the system message that all rows share has 8,001 characters, and a run keeps at")
            assert in_manifest not in json.dumps(answer)
        else:
            assert (answer["system"], answer["warnings"]) == (in_manifest, [])
        return in_manifest

    assert system("Be kind.") == "Be kind."
    for length in (outputs.MOST_SYSTEM, outputs.MOST_SYSTEM + 1):
        assert system("x" * length) == "x" * length
    assert system(None) is None
    assert system("Be kind.", "Be short.") is None
    assert system("Be kind.", None) is None


def test_rows_of_nova_all_have_a_system_message_or_none_has(
    output: str, put: Callable[[str, bytes], None], get: Callable[[str], bytes]
) -> None:
    rows = [turns("sua", "Be kind.", str(n), f"answer {n}") for n in range(100)]
    rows[90:] = [row[1:] for row in rows[90:]]
    put("uploads/chats.jsonl", jsonl([{"messages": row} for row in rows]))
    event = with_bedrock(make_event(output, f"s3://{BUCKET}/uploads/chats.jsonl"), NOVA)
    prepared(event)
    for kind in ("train", "validation"):
        validate(NOVA, kind, get(f"{output}bedrock/{kind}.jsonl"))
    left_out = json.loads(get(output + "manifest.json"))["bedrock"]["not_fit_for_the_base_model"]
    assert list(left_out) == ["has no system message, and the first record has a system message"]
    assert "schemaVersion" in get(f"{output}bedrock/train.jsonl").decode()


def test_a_dataset_of_tool_calls_is_refused_with_the_reason(output: str, put: Callable[[str, bytes], None]) -> None:
    put("uploads/chats.jsonl", jsonl([{"messages": turns("uta", str(n), "b", "c")} for n in range(30)]))
    line = refusal(make_event(output, f"s3://{BUCKET}/uploads/chats.jsonl", max_rejected_share=0.1))
    assert "30 (role 'tool': 30) of 30 rows are not fit" in line
    assert line.endswith("; mend them")


def test_too_long_conversations_may_be_cut(output: str, put: Callable[[str, bytes], None]) -> None:
    turns = [{"role": "user", "content": "q " * 99}, {"role": "assistant", "content": "a"}] * 9
    put("uploads/chats.jsonl", jsonl([{"messages": turns}]))
    event = make_event(output, f"s3://{BUCKET}/uploads/chats.jsonl")
    event["request"]["max_tokens"] = 64
    assert refusal(event).endswith("; mend them, raise training.max_length, or set training.long_conversations: cut")


@pytest.mark.parametrize(
    ("row", "fit", "remedy"),
    [
        ({"messages": [{"role": "human", "content": "q"}, {"role": "gpt", "content": "a"}]}, 40, "; mend them"),
        (
            {"messages": [{"role": "developer", "content": "q"}]},
            0,
            "; this is OpenAI's newer word for system: write the role",
        ),
        (
            {"prompt": [{"role": "human", "content": "q"}], "completion": [{"role": "gpt", "content": "a"}]},
            0,
            "; write the roles system, user and assistant",
        ),
    ],
    ids=["few rows", "developer", "prompts"],
)
def test_other_roles_of_few_rows_or_without_a_format_have_another_remedy(
    output: str, put: Callable[[str, bytes], None], row: dict[str, Any], fit: int, remedy: str
) -> None:
    good = [
        {"messages": [{"role": "user", "content": f"q {n}"}, {"role": "assistant", "content": "a"}]} for n in range(fit)
    ]
    put("uploads/chats.jsonl", jsonl([*good, *[row] * 20]))
    assert remedy in refusal(make_event(output, f"s3://{BUCKET}/uploads/chats.jsonl", max_rejected_share=0.05))


@pytest.mark.parametrize(
    ("row", "remedy", "mended"),
    [
        (
            {"conversations": [{"from": "user", "value": "q"}, {"from": "assistant", "value": "a"}]},
            "these are OpenAI's roles: set dataset.format: messages, dataset.fields.messages: conversations, "
            "dataset.fields.role: from and dataset.fields.content: value",
            {"format": "messages", "messages": "conversations", "role": "from", "content": "value"},
        ),
        (
            {"messages": [{"role": "human", "content": "q"}, {"role": "gpt", "content": "a"}]},
            "these are ShareGPT's roles: set dataset.format: sharegpt, dataset.fields.conversations: messages, "
            "dataset.fields.speaker: role and dataset.fields.value: content",
            {"format": "sharegpt", "conversations": "messages", "speaker": "role", "value": "content"},
        ),
    ],
)
def test_the_roles_of_the_other_format_are_refused_with_the_settings_that_read_them(
    output: str, put: Callable[[str, bytes], None], row: dict[str, Any], remedy: str, mended: dict[str, str]
) -> None:
    column, turns_of_row = next(iter(row.items()))
    content = list(turns_of_row[0])[1]
    rows = [{column: [turn | {content: f"{turn[content]} {n}"} for turn in turns_of_row]} for n in range(60)]
    put("uploads/chats.jsonl", jsonl(rows))
    event = make_event(output, f"s3://{BUCKET}/uploads/chats.jsonl")
    assert refusal(event).endswith(f"; {remedy}")
    dataset = event["request"]["dataset"]
    dataset["format"] = mended.pop("format")
    dataset["fields"] |= mended
    assert prepared(event)["counts"]["rejected"] == 0


GOOD_MARKS = st.builds(lambda system, count: "s" * system + "ua" * count, st.booleans(), st.integers(1, 4))
CLEAN_TURN = st.sampled_from(["hi", "naïve 😀", "a\r\nb", "User:", ":-)", "x" * 30])
ANY_TURN = CLEAN_TURN | CLEAN_TURN | st.sampled_from(["\x01", "\ud800", "\x85"])
CONVERSATION = GOOD_MARKS.flatmap(
    lambda marks: st.lists(ANY_TURN, min_size=len(marks), max_size=len(marks)).map(
        lambda texts: Conversation(texts, marks.replace("a", "A"))
    )
)


@given(
    st.lists(CONVERSATION | CONVERSATION | st.just((None, None, "blank line")), min_size=1, max_size=12),
    st.sampled_from([10_000, 12, 5]),
    st.sampled_from([None, NOVA, LLAMA, PROMPTS]),
    st.sampled_from([BATCH_ROWS, 1, 2, 5]),
)
@settings(max_examples=300, deadline=None)
def test_a_batch_of_conversations_gives_the_results_of_each_alone(
    rows: list[Row], max_tokens: int, base_model: str | None, batch: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_prep.checks.BATCH_ROWS", batch)
        found = list(checks("all", base_model, max_tokens).check(rows))
    alone = checks("all", base_model, max_tokens)
    assert found == [next(alone.check([row])) for row in rows]
    for row, result in zip(rows, found, strict=True):
        if isinstance(row, Conversation) and result[0] is None:
            assert [turn["content"] for turn in read_row(result[6])] == [lf(text) for text in row.texts]
            assert sum(map(len, map(lf, row.texts))) <= max_tokens * 6


def test_the_beginning_of_a_file_decides_the_format_of_all_its_parts(
    s3: Any, output: str, put: Callable[[str, bytes], None], get: Callable[[str], bytes]
) -> None:
    # After the first rows come rows of another format, which would decide for a shard that looked at its own rows.
    rows: list[Any] = [{"messages": row} for row in WHOLE]
    rows[40:80] = [{"prompt": str(n), "completion": f"answer {n}"} for n in range(40)]
    put("uploads/mixed.jsonl", jsonl(rows))
    event = listed(make_event(output, f"s3://{BUCKET}/uploads/mixed.jsonl"))
    answer = handler(event, None)
    assert answer["rejected"] == {"no field 'messages'": 40}
    again = prepare_in_shards(with_output(event, "again/"), shards(cut(event["pieces"], [0.3, 0.4, 0.5]), range(4)))
    assert again["rejected"] == answer["rejected"]
    assert get(output + "manifest.json") == get(output + "again/manifest.json")


def test_a_part_of_a_file_that_fits_no_format_is_refused(
    s3: Any, output: str, put: Callable[[str, bytes], None]
) -> None:
    put("uploads/other.jsonl", jsonl([{"text": str(n)} for n in range(60)]))
    event = listed(make_event(output, f"s3://{BUCKET}/uploads/other.jsonl"))
    line = "dataset.fields: 'uploads/other.jsonl' has no column 'dialogue'; it has 'text'; name two of them in dataset.fields"
    assert handler(event, None)["refused"].startswith(line)
    assert prepare_in_shards(event, shards(cut(event["pieces"], [0.5]), range(2)))["refused"].startswith(line)
