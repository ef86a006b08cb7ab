"""What a plan prints: the learned text in colour or between marks, and amounts that are not known as not known."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cli import plan_view
from cli.tokens import ShownRow
from pipeline import settings as schema
from pipeline.contracts.money import Estimate, Expected
from tests.local_aws.conftest import ROOT

ROW = ShownRow(3, ["user: [bold]hi[/bold] [/x]\nassistant: ", "They greet.<|end|>\n"], 12, 4)


def printed(row: ShownRow, width: int = 80, **options: object) -> str:
    console = Console(file=io.StringIO(), width=width, **options)  # type: ignore[arg-type]
    plan_view._show_rows([row], console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_with_colours_the_learned_text_has_one() -> None:
    text = printed(ROW, 160, force_terminal=True, color_system="truecolor")
    assert "\x1b[1;32mThey greet.<|end|>\x1b[0m" in text
    assert "in this colour" in text
    assert ">>>" not in text
    assert "user: [bold]hi[/bold] [/x]\n" in text


@pytest.mark.parametrize("options", [{}, {"force_terminal": True, "no_color": True, "color_system": "truecolor"}])
def test_without_colours_the_learned_text_is_between_marks(options: dict[str, object]) -> None:
    text = printed(ROW, 160, **options)
    assert "Learned is the text between >>> and <<<." in text
    assert "assistant: >>>They greet.<|end|><<<\n" in text
    assert "Row 3: 12 tokens, 4 of them learned" in text
    assert "\x1b[32m" not in text


def test_every_learned_answer_of_a_conversation_is_marked() -> None:
    row = ROW._replace(parts=["user: hi\nassistant: ", "ho<|end|>", "\nuser: bye\nassistant: ", "bye<|end|>"])
    assert plan_view.text_of(row, coloured=False).plain == (
        "user: hi\nassistant: >>>ho<|end|><<<\nuser: bye\nassistant: >>>bye<|end|><<<"
    )


def test_without_the_tokenizer_the_legend_says_so() -> None:
    text = printed(ROW._replace(tokens=None, learned_tokens=None), width=200)
    assert "without the model's template, which needs the tokenizer (`make preview`)" in text
    assert "\nRow 3\n" in text


@given(st.text(max_size=5000), st.integers(20, 2000))
def test_a_long_text_keeps_its_ends(text: str, most: int) -> None:
    cut = plan_view._cut(text, most)
    if len(text) <= most:
        assert cut == text
        return
    assert len(cut) < most + 40
    assert cut.startswith(text[: most * 2 // 3])
    assert cut.endswith(text[-(most // 3) :])


@pytest.mark.parametrize("width", [40, 80, 160])
def test_a_long_line_goes_on_below_its_beginning(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    plan_view._line(console, "dataset", "word " * 60)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[0].startswith("dataset     word")
    assert all(line.startswith(" " * 12 + "word") for line in lines[1:])
    assert max(map(len, lines)) <= width
    assert sum(line.count("word") for line in lines) == 60


def test_a_path_that_is_wider_than_the_terminal_stays_in_one_piece() -> None:
    console = Console(file=io.StringIO(), width=40, soft_wrap=True)
    path = f"/data/{'folder-of-talks/' * 5}mine.csv:"
    plan_view._line(console, "dataset", f"  {path} 160 rows read, 4 of them rejected")
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert " ".join("".join(lines).split()) == f"dataset {path} 160 rows read, 4 of them rejected"
    assert path in lines[0].split()


def test_an_unknown_amount_is_never_0() -> None:
    expected = Expected(0.0, None, 1.5, None, None, None, "x")
    most = Estimate(None, 0.0, 3.0, None, "USD", "2026-01-01", [], expected)
    screen = Console(file=io.StringIO(), width=80)
    screen.print(plan_view._prices(most, expected))
    rows = [line.split(maxsplit=1) for line in screen.file.getvalue().splitlines()]
    assert [(name, " ".join(cells.split())) for name, cells in rows[1:]] == [
        ("training", "0.00 not known"),
        ("bedrock", "not known 0.00"),
        ("endpoint", "1.50 3.00"),
        ("total", "not known not known"),
    ]


def test_a_row_cannot_command_the_terminal() -> None:
    row = ShownRow(1, ["a\x1b[2J\tb\n", "\u5199\u771f\u3000c\x07"], 3, 1)
    assert plan_view.text_of(row, coloured=False).plain == "a\\x1b[2J\tb\n>>>\u5199\u771f\u3000c\\x07<<<"


@pytest.mark.parametrize(
    ("promote", "metrics", "by", "line"),
    [
        (
            "clearly_better",
            ["rouge", "chrf"],
            "rouge",
            "by rouge, chrf on the test split; promoted by rouge (endpoint.promote: clearly_better)",
        ),
        ("better", ["label"], "label", "by label on the test split; promoted by label (endpoint.promote: better)"),
        (
            "always",
            ["json"],
            "json",
            "by json on the test split; promoted whatever they say (endpoint.promote: always)",
        ),
    ],
)
def test_the_plan_says_how_the_run_is_judged(promote: str, metrics: list[str], by: str, line: str) -> None:
    run_input = {
        "endpoint": {"promote": promote},
        "training": {"evaluation": {"metrics": metrics, "promote_by": by}},
    }
    chosen = schema.with_run_input(schema.load(ROOT / "config.yaml").model_dump(mode="json"), run_input)
    assert plan_view._judging(chosen) == line


def test_the_plan_names_the_judge_model() -> None:
    settings = schema.load(ROOT / "config.yaml").model_dump(mode="json")
    settings["training"]["evaluation"] |= {
        "judge_model": "us.amazon.nova-lite-v1:0",
        "judge_rows": 40,
        "promote_by": "judge",
    }
    assert plan_view._judging(schema.validate(settings, "x")) == (
        "by rouge, chrf on the test split, and by us.amazon.nova-lite-v1:0 on at most 40 of its rows; promoted by judge "
        "(endpoint.promote: clearly_better)"
    )
