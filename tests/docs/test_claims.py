"""Every block of every page is claimed by a test, and every command in the texts exists."""

from __future__ import annotations

import ast
import io
import re
from operator import attrgetter

import pytest
from rich.console import Console

from cli.view import Tree
from tests.docs import checks, pages, parsing
from tests.docs.claims import CLAIMS, LIFE, Claim
from tests.docs.outputs import PAIR
from tests.docs.pages import ROOT, Block, InlineCommand
from tests.docs.shape import labels
from tests.unit.cli.recorded_runs import found, recorded


def written() -> set[str]:
    """Return the places of the blocks that `tests.docs.outputs` runs, and of the outputs that it writes below them."""
    found = set()
    for page in pages.pages():
        text = (ROOT / page).read_text(encoding="utf-8")
        for pair in PAIR.finditer(text):
            found |= {f"{page}:{text.count(chr(10), 0, pair.start(part)) + 1}" for part in ("code", "output")}
    return found


def test_every_block_of_every_page_has_one_claim() -> None:
    by_the_tool = written()
    for block in pages.blocks():
        claims = [each for each in CLAIMS if each.page == block.page and block.text.lstrip().startswith(each.begins)]
        count = len(claims) + (block.place in by_the_tool)
        first = (block.text.splitlines() or [""])[0]
        assert count, f"{block.place}: no test runs this block ({first}); add a Claim to tests/docs/claims.py"
        assert count == 1, f"{block.place}: {count} claims fit this block ({first})"


@pytest.mark.parametrize(
    "block", [block for block in pages.blocks() if block.place in written()], ids=attrgetter("place")
)
def test_the_commands_of_a_block_with_an_output_exist(block: Block) -> None:
    language = block.language.split()[0]
    if language == "bash":
        checks.shell(block)
    elif language == "python":
        checks.program(block)
    else:
        assert block.text.strip(), f"{block.place}: the output is missing; run `make docs-outputs PAGES={block.page}`"


def test_a_new_block_is_found_wherever_it_stands() -> None:
    text = "# A\n\n```bash\nmake\n```\n\n- a list\n\n  ```json\n  {}\n  ```\n\n> ~~~\n> quoted\n> ~~~\n\nx\n\n    indented\n"
    blocks = list(pages.blocks_of("p.md", text))
    assert [(block.line, block.language, block.text) for block in blocks] == [
        (4, "bash", "make\n"),
        (10, "json", "{}\n"),
        (14, "", "quoted\n"),
        (19, "", "indented\n"),
    ]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.page}: {claim.begins.splitlines()[0][:30]}")
def test_the_check_accepts_the_block(claim: Claim) -> None:
    claim.check(pages.block(claim.page, claim.begins))


def names(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_each_test_that_a_claim_names_exists_and_a_claim_without_one_says_why() -> None:
    for claim in CLAIMS:
        file, _, name = claim.run.partition("::")
        assert bool(claim.run) != bool(claim.why), claim
        assert not claim.run or (name.startswith("test_") and name in names(file)), claim.run


@pytest.mark.parametrize("command", pages.inline_commands(), ids=lambda command: f"{command.place} {command.text}")
def test_every_command_in_a_text_exists(command: InlineCommand) -> None:
    parsing.parse(command.text, whole=False)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("tuneway dctor", "no command dctor"),
        ("tuneway runs compre", "no command compre"),
        ("tuneway run --datset x", "No such option: --datset"),
        ("make locall", "No rule to make target 'locall'"),
        ("make local DATASETS=x", "no variable DATASETS"),
        ("make ask PORT=3", "no variable PORT"),
        ("cdk deploi", "no command deploi"),
        ("cdk deploy --nope", "no option --nope"),
        ("aws iam create-policys", "no operation create-policys"),
        ("aws iam create-policy --name x", "no parameter --name"),
        ("aws ce update-cost-allocation-tags-status --cost-allocation-tags-status Key=a", "no member Key"),
        ("python -m infra.permission", "no program infra.permission"),
        ("python -m infra.permissions --accountt 1", "no option --accountt"),
        (".venv/bin/python -m pytest tests/unt", "no tests/unt"),
        (".ci/rum", "is no program"),
        ("pip install x", "pip is not known"),
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str, reason: str) -> None:
    with pytest.raises(parsing.UnknownCommand, match=re.escape(reason)):
        parsing.parse(line)


def test_the_drawn_run_has_the_form_of_a_recorded_one() -> None:
    """Its lines have the marks, the names and the order of those that `tuneway watch` draws of a recorded execution."""

    def form(lines: list[str]) -> list[str]:
        return [found[1] for line in lines if (found := re.match(r"[├└│─ ]*[├└]─ (?:. )?(\w+)(?= |$)", line))]

    entered = [event.get("stateEnteredEventDetails", {}).get("name") for event in recorded("succeeded")["events"]]
    run, now = found("succeeded", entered.index("Train") + 3)
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(Tree(console, "tuneway", lambda _run, _now: "spent").picture(run, now))
    drawn = capture.get().splitlines()
    printed = pages.block("docs/run.md", "c75f9f28").text.splitlines()
    assert form(printed) == form(drawn)
    assert re.fullmatch(r"\S+  RUNNING  \d+:\d\d  stack tuneway", printed[0])
    assert re.sub(r"\S+  RUNNING  [\d:]+", "", printed[0]) == re.sub(r"\S+  RUNNING  [\d:]+", "", drawn[0].rstrip())
    assert printed[-1] == drawn[-1].rstrip()


def test_the_life_runs_the_blocks_that_it_claims() -> None:
    assert sum(claim.run == LIFE for claim in CLAIMS) > 15


def test_the_shape_of_an_output_is_the_names_of_its_lines() -> None:
    lines = ["ok  base model   x can be read", "├─ ✓ Train     7:25 done", "Verdict not served", "Cost    0.18 dollars"]
    lines += ["            an epoch has 12 rows", "training      0.47     0.70", "Mia said so to Tom and left"]
    assert labels("\n".join(lines)) == {"base model", "Train", "Verdict", "Cost", "training"}
