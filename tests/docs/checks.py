"""What is checked of each kind of block, without a deployed stack."""

from __future__ import annotations

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from cli.history import STEPS
from data_prep.checks import Checks
from local_aws.core.faults import parse as parse_fault
from local_aws.ministack.decisions import evaluate
from pipeline import earlier_run, promotion
from pipeline import settings as schema
from serving import questions
from tests.docs.pages import ROOT, Block, commands
from tests.docs.parsing import parse
from tests.unit.data_prep.conftest import AUTO, make_event, prep_request
from tests.unit.test_imports import FOLDERS
from training import messages

DEPLOYED: dict[str, Any] = schema.load(ROOT / "config.yaml").model_dump(mode="json")


def shell(block: Block) -> None:
    """Every command exists, with its options and variables."""
    found = commands(block.text)
    assert found
    for line in found:
        parse(line)


def output(block: Block) -> None:
    """The block is an output, an address or a template, which the test that the claim names reads from the page."""
    assert block.text.strip()


def run_input(block: Block) -> None:
    """Plan accepts the execution's input."""
    given = json.loads(block.text)
    wanted = earlier_run.wanted(given)
    if wanted is None:
        assert schema.with_run_input(DEPLOYED, given).model_dump(mode="json") != DEPLOYED
    else:
        schema.with_run_input(DEPLOYED, wanted.input)


def chat(block: Block) -> None:
    """The request is the one of the program that the product prints: an instruction and a dialogue, without randomness."""
    request = json.loads(block.text)
    assert [message["role"] for message in request.pop("messages")] == ["system", "user"]
    assert request == {"max_tokens": 128, "temperature": 0}


def conversation(block: Block) -> None:
    """`tuneway ask` takes the messages as a conversation."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "chat.json")
        file.write_text(block.text, encoding="utf-8")
        assert len(questions.read(str(file))) > 1


def faults(block: Block) -> None:
    """Local AWS accepts the faults, those of a call of curl too."""
    text = block.text.strip()
    given = text.partition("-d '")[2].rstrip("'") if text.startswith("curl ") else f"[{','.join(text.splitlines())}]"
    assert [parse_fault(each) for each in json.loads(given)]


def row(block: Block) -> None:
    """The training's own code reads the row."""
    messages.check(json.loads(block.text))


def formats(block: Block) -> None:
    """Each row of the block has another format, which its keys tell, and all of them make the same training row."""
    rows = [json.loads(text) for text in block.text.split("\n\n")]
    instruction = rows[1]["messages"][0]["content"]
    assert f"`dataset.instruction: {instruction}`" in (ROOT / block.page).read_text(encoding="utf-8")
    chosen = [AUTO.choose(block.place, [row]) for row in rows]
    assert [one and one.name for one in chosen] == [
        "columns",
        "messages",
        "sharegpt",
        "prompt_completion",
        "instruction",
    ]
    rules = Checks(prep_request(make_event("out/", instruction=instruction)["request"]))
    read = [
        one.row(*(row[column] for column in (*one.columns, *one.optional)))
        for one, row in zip(chosen, rows, strict=True)
        if one
    ]
    lines = {line for reason, *_, line in rules.check(read) if reason is None}
    assert len(lines) == 1
    assert len(list(rules.check(read))) == len(rows)


def settings(block: Block) -> None:
    """The lines are a valid layer over config.yaml, and change it."""
    layer = schema.overlay(DEPLOYED, yaml.safe_load(block.text))
    assert schema.validate(layer, block.place).model_dump(mode="json") != DEPLOYED


def statements(block: Block) -> None:
    """IAM's own evaluation allows each action of the statements on their resource, and no other action."""
    for found in json.loads(f"[{block.text}]"):
        assert found.keys() <= {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
        policy = {"Version": "2012-10-17", "Statement": [{**found, "Principal": None}]}
        policy["Statement"][0].pop("Principal")
        context = {key: value for pairs in found.get("Condition", {}).values() for key, value in pairs.items()}
        decision = {"resource": "x" if found["Resource"] == "*" else found["Resource"], "context": context}
        decision["principal"] = "arn:aws:sts::ACCOUNT:assumed-role/somebody/session"
        for action in [found["Action"]] if isinstance(found["Action"], str) else found["Action"]:
            assert evaluate([policy], {**decision, "action": action.replace("*", "Any")}), action
        assert not evaluate([policy], {**decision, "action": "iam:CreateRole"})


def program(block: Block) -> None:
    """The program is Python, and each name that it imports exists."""
    tree = compile(block.text, block.place, "exec", flags=0, dont_inherit=True)
    imports = [line for line in block.text.splitlines() if re.match(r"(from|import) ", line)]
    assert imports
    assert tree.co_names
    exec("\n".join(imports), {})


def steps(block: Block) -> None:
    """The drawing has steps of the pipeline, and its arrows go from one drawn step to another."""
    drawn = re.findall(r"<b>(\w+)</b>", block.text)
    assert drawn
    assert set(drawn) <= set(STEPS)
    edges = block.text.rsplit("\n    ", 1)[1].split()
    assert set(edges) - {"-->"} <= set(drawn)


def imports(block: Block) -> None:
    """Each arrow of the drawing is an import that the test of the imports knows."""
    names = dict(re.findall(r'(\w+)\["([\w/.]+)"\]', block.text))
    arrows = re.findall(r"(\w+)(?=(?:\[[^\]]*\])? --> )", block.text)
    pairs = [
        (names.get(a, a), names.get(b, b))
        for line in block.text.splitlines()
        for a, b in zip(
            re.findall(r"(\w+)(?:\[[^\]]*\])?", re.sub(r"\[[^\]]*\]", "", line)),
            re.findall(r"(\w+)(?:\[[^\]]*\])?", re.sub(r"\[[^\]]*\]", "", line))[1:],
            strict=False,
        )
        if "-->" in line
    ]
    assert arrows
    for above, below in pairs:
        module, other = (name.removesuffix(".py").replace("/", ".") for name in (above, below))
        assert other in FOLDERS[module], f"{above} does not import {below}"


def tree(block: Block) -> None:
    """Each path exists, and each folder of code is there."""
    above, found = "", set()
    for line in block.text.splitlines():
        name = line.split()[0]
        path = f"{above}{name}" if line.startswith(" ") else name
        above = above if line.startswith(" ") else name
        assert (ROOT / path).exists(), path
        found.add(path.strip("/").replace("/", "."))
    assert FOLDERS.keys() - found <= {"pipeline.contracts", "app"}


def verdict(block: Block) -> None:
    """The reason is that of `pipeline.promotion` for these numbers."""
    words = " ".join(block.text.split())
    found = re.search(r"on (\d+) held-out rows: .*? difference ([+-][\d.]+) \(95% ([+-][\d.]+) to", words)
    assert found
    difference = {"rougeL": {"mean": float(found[2]), "low": float(found[3])}}
    promoted, why = promotion.decide({"rows": int(found[1]), "difference": difference}, "clearly_better")
    assert f"{'promoted' if promoted else 'not promoted'}, because {why}" in words
    source = (ROOT / "local" / "run.py").read_text(encoding="utf-8")
    for constant in ("tuned (endpoint)", "cdk destroy", "Left after destroy:"):
        assert constant in words
        assert constant in source
