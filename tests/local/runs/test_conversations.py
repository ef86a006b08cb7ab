"""Each format of the same dialogues gives the same training files, and a model of data/chats/ is served and asked thrice."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import settings
from pipeline.scores import NAMES
from tests.local.deployed import ROOT
from training.messages import read_row

if TYPE_CHECKING:
    from tests.local.deployed import Deployed

CHATS = {split: ROOT / "data" / "chats" / f"{split}.jsonl" for split in ("train", "validation", "test")}
SYSTEM = settings.load(ROOT / "config.yaml").dataset.instruction
TIMES = 8
"""So often the sample dialogues are repeated, with a number each, that a file of 1 MB is cut into shards."""

# A run that tests only its data fails at once in its training.
NO_TRAINING = {"kind": "training", "how": "fail"}


def read(stack: Deployed, uri: str) -> bytes:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bytes(stack.aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def sharegpt(messages: list[dict[str, str]]) -> dict[str, Any]:
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    return {"conversations": [{"from": names[turn["role"]], "value": turn["content"]} for turn in messages]}


def in_each_format() -> dict[str, list[dict[str, Any]]]:
    """Return the same dialogues, of one exchange each, in each format."""
    found: dict[str, list[dict[str, Any]]] = {}
    with (ROOT / "data" / "dialogues" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for number in range(TIMES):
        for row in rows:
            dialogue, summary = f"{row['dialogue']}\nAnn: {number}", row["summary"]
            question, answer = message("user", dialogue), message("assistant", summary)
            turns = [message("system", SYSTEM), question, answer]
            for name, record in (
                ("columns", {"dialogue": dialogue, "summary": summary}),
                ("messages", {"messages": turns}),
                ("sharegpt", sharegpt(turns)),
                ("prompt_completion", {"prompt": turns[:2], "completion": turns[2:]}),
                ("instruction", {"instruction": SYSTEM, "input": dialogue, "output": summary}),
            ):
                found.setdefault(name, []).append(record)
    return found


def of_many_turns() -> dict[str, list[dict[str, Any]]]:
    """Return the sample conversations in each format that holds several turns."""
    rows = [json.loads(line)["messages"] for path in CHATS.values() for line in path.read_bytes().splitlines()]
    return {
        "messages": [{"messages": row} for row in rows],
        "sharegpt": [sharegpt(row) for row in rows],
        "prompt_completion": [{"prompt": row[:-1], "completion": row[-1:]} for row in rows],
    }


def written(stack: Deployed, rows: dict[str, list[dict[str, Any]]], **dataset: Any) -> dict[str, dict[str, Any]]:
    """Run an execution on the rows of each format, all at once. Return what each run's manifest says about its files of rows.

    The manifest has the digest of each file, which data prep has compared with the bytes that it read back.
    """
    dataset |= {"files": dict.fromkeys(CHATS), "max_rows": dict.fromkeys(CHATS)}
    arns = {}
    stack.faults(NO_TRAINING)
    for name, records in rows.items():
        source = f"uploads/formats/{len(records)}-{name}.jsonl"
        stack.upload(source, "".join(f"{json.dumps(record)}\n" for record in records).encode())
        arns[name] = stack.start({"dataset": {"source": source, **dataset}, "bedrock": {"mode": "off"}})
    found = {}
    for name, arn in arns.items():
        ended = stack.wait_for_end(arn)
        assert (ended["status"], ended["error"]) == ("FAILED", "TrainingFailed"), ended
        state = "MergeData" if "MergeData" in stack.states(arn) else "PrepareData"
        prepared = stack.result(arn, state)["Payload"]
        assert prepared["formats"] == {name: 1}
        assert prepared["rejected"] == {}
        manifest = json.loads(read(stack, prepared["manifest"]))
        found[name] = {
            "state": state,
            "system": manifest["system"],
            **{split: manifest["outputs"][f"{split}/{split}.jsonl"] for split in CHATS},
        }
    stack.faults()
    return found


def test_the_same_dialogues_give_the_same_bytes_in_each_format_in_one_function_and_in_shards(stack: Deployed) -> None:
    rows = in_each_format()
    one, many = written(stack, rows, shard_mb=256), written(stack, rows, shard_mb=1)
    assert [{of_format.pop("state") for of_format in found.values()} for found in (one, many)] == [
        {"PrepareData"},
        {"MergeData"},
    ]
    expected = one["columns"]
    assert expected["system"] == SYSTEM
    assert sum(expected[split]["rows"] for split in CHATS) == len(rows["columns"])
    assert list(one.values()) == list(many.values()) == [expected] * len(rows)


def test_the_same_conversations_give_the_same_bytes_in_each_format_of_turns(stack: Deployed) -> None:
    # In a prompt the earlier answers are given, and only the completion is learned.
    found = written(stack, of_many_turns(), learn="last")
    assert list(found.values()) == [found["messages"]] * 3
    assert sum(found["messages"][split]["rows"] for split in CHATS) == 60


@pytest.fixture(scope="module")
def chats(stack: Deployed) -> dict[str, Any]:
    """A whole run on data/chats/, started as a user starts it. The tiny model reads Japanese by the byte, so rows are long."""
    done = stack.tuneway(
        "run",
        *(
            "--dataset",
            "data/chats/",
            "--yes",
            "--detach",
            "--set",
            "bedrock.mode=off",
            "--set",
            "training.max_steps=2",
        ),
        *("--set", "training.max_length=2048", "--set", "endpoint.max_model_len=2048"),
        *(f"--set=dataset.max_rows.{split}=null" for split in CHATS),
    )
    assert done.returncode == 0, done.stderr
    assert "data/chats (train, validation and test by the names of its files): 60 rows read as messages" in " ".join(
        done.stdout.split()
    )
    name = done.stdout.rpartition("tuneway watch ")[2].split()[0].rstrip(";")
    ended = stack.wait_for_end(stack.outputs["StateMachineArn"].replace(":stateMachine:", ":execution:") + f":{name}")
    assert ended["status"] == "SUCCEEDED", ended.get("cause")
    return ended


def test_the_folders_own_splits_are_trained_on_every_answer(stack: Deployed, chats: dict[str, Any]) -> None:
    output = chats["output"]
    prepared = stack.result(chats["executionArn"], "PrepareData")["Payload"]
    assert prepared["formats"] == {"messages": 3}
    manifest = json.loads(read(stack, output["manifest"]))
    assert {file["format"] for file in manifest["files"]} == {"messages"}
    data = output["manifest"].removesuffix("manifest.json")
    for split, path in CHATS.items():
        rows = [json.loads(line)["messages"] for line in path.read_bytes().splitlines()]
        assert manifest["system"] == rows[0][0]["content"]
        marked = [
            [turn | ({"learned": True} if turn["role"] == "assistant" else {}) for turn in messages]
            for messages in rows
        ]
        assert [read_row(line) for line in read(stack, f"{data}{split}/{split}.jsonl").splitlines()] == marked
    left_out = json.loads(read(stack, f"{output['model']}tuneway/left_out.json"))
    assert left_out == {"train": [], "validation": []}


def test_the_verdict_is_that_of_the_numbers_at_the_last_turns(stack: Deployed, chats: dict[str, Any]) -> None:
    output = chats["output"]
    evaluation = json.loads(read(stack, f"{output['model']}tuneway/evaluation.json"))
    ends = {row[-1]["content"]: row[:-1] for row in map(read_chat, CHATS["test"].read_bytes().splitlines())}
    assert evaluation["rows"] == len(ends) == 10
    assert evaluation["samples"]
    for sample in evaluation["samples"]:
        assert sample["prompt"] == ends[sample["reference"]]
        assert len(sample["prompt"]) >= 4
    key = "rougeL"
    tuned, base, difference = (evaluation[of][key] for of in ("tuned", "base", "difference"))
    assert output["why"].startswith(
        f"{NAMES[key]} on 10 held-out rows: tuned {tuned['mean']:.1f}, base {base['mean']:.1f}, difference "
        f"{difference['mean']:+.1f} (95% {difference['low']:+.1f} to {difference['high']:+.1f})"
    )
    assert difference["low"] <= tuned["mean"] - base["mean"] <= difference["high"]


def read_chat(line: bytes) -> list[dict[str, str]]:
    return list(json.loads(line)["messages"])


CONVERSE = """
import json, sys
from serving.endpoint import client

openai = client(*sys.argv[1:4])
messages = json.loads(sys.argv[4])
for question in json.loads(sys.argv[5]):
    messages.append({"role": "user", "content": question})
    answer = openai.chat.completions.create(model="", messages=messages, max_tokens=8, temperature=0)
    messages.append({"role": "assistant", "content": answer.choices[0].message.content})
print(json.dumps([messages, answer.usage.prompt_tokens]))
"""
"""A program that asks one question after the other, each with all turns before it."""


def test_the_served_model_answers_a_third_turn(stack: Deployed, chats: dict[str, Any]) -> None:
    assert chats["output"]["deployment"] == "passed"
    row = next(row for row in map(read_chat, CHATS["test"].read_bytes().splitlines()) if len(row) >= 7)
    questions = [turn["content"] for turn in row if turn["role"] == "user"][:3]

    def converse(*asked: str) -> Any:
        arguments = [stack.prefix, stack.outputs["CallerRoleArn"], stack.aws.region]
        done = subprocess.run(
            [sys.executable, "-c", CONVERSE, *arguments, json.dumps(row[:1]), json.dumps(asked)],
            cwd=ROOT,
            env=stack.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    messages, tokens = converse(*questions)
    assert [turn["role"] for turn in messages] == ["system", *("user", "assistant") * 3]
    assert all(turn["content"].strip() for turn in messages)
    # The third question is asked with the turns before it, and not alone.
    assert tokens > converse(questions[2])[1]
