"""The results of a page: how training went, the scores with their intervals, the habits, and the held-out samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pipeline.scores import NAMES, deciding, present
from report import charts, words
from report.limits import cut, thinned
from report.markup import Markup, element, join, scrolling, table
from report.overview import section

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.contracts.values import JsonObject
    from report.limits import Limits
    from report.story import Story

_TABLE_ROWS = 40
"""The most steps, and the most validations, of the table of losses, which stands below the charts."""
_SHOWN_TURNS = 3
"""The last turns of a conversation that are shown at once."""
_TURNS = {"user": "question", "assistant": "answer"}
"""The classes of turns by their roles."""
_HABITS = {
    "empty": "empty",
    "truncated": "cut at the longest allowed answer",
    "copied": "copied from the dialogue",
    "repeating": "repeating themselves",
}
_FAULTS = {"repeating": "repeats itself", "truncated": "is cut"}


def training(found: charts.Series) -> Markup | None:
    """Return the charts of the training. The browser draws them from the page's data, and shows values on hover."""
    if not found:
        return None
    drawn = []
    for names, name in ((("loss", "eval_loss"), "Loss"), (("learning_rate",), "Learning rate")):
        if any(kind in found for kind in names):
            drawn.append(
                element(
                    "figure",
                    element("figcaption", name),
                    element("div", class_="chart", data_series=" ".join(kind for kind in names if kind in found)),
                )
            )
    steps = sorted({step for pair in found.values() for step in pair[0]})
    by_step = {kind: dict(zip(*pair, strict=True)) for kind, pair in found.items()}
    validated = found["eval_loss"][0] if "eval_loss" in found else []
    shown = sorted({*thinned(steps, _TABLE_ROWS), *thinned(validated, _TABLE_ROWS)})
    rows = [
        [f"{step:,.0f}", *("" if step not in by_step[kind] else f"{by_step[kind][step]:.4g}" for kind in found)]
        for step in shown
    ]
    lead = "; ".join(
        f"{charts.SERIES[kind]}: {_ends(pair[1])}" for kind, pair in found.items() if kind != "learning_rate"
    )
    head = ["Step", *(charts.SERIES[kind] for kind in found)]
    name = "Values" if len(shown) == len(steps) else f"Values of {len(shown)} of the steps"
    values = element("details", element("summary", name), table(name, head, rows, numbers=range(len(head))))
    noscript = element("noscript", element("p", "The charts need JavaScript. The values stand below.", class_="cut"))
    return section("training", "Training", noscript, element("div", *drawn, class_="charts"), values, lead=f"{lead}.")


def _ends(values: list[float]) -> str:
    return f"{values[0]:.3f} at first, {values[-1]:.3f} at last" if len(values) > 1 else f"{values[0]:.3f}"


def scores(story: Story) -> Markup | None:
    """Return the scores of base and tuned model with their 95% intervals, and each difference in words."""
    found = story.scores
    if not found or not found.get("tuned") or not found.get("difference"):
        return None
    keys, first = present(found), deciding(found)
    highest = _highest([found[side].get(key) for side in ("base", "tuned") for key in keys])
    most = _highest([found["difference"].get(key) for key in keys], both=True)
    blocks = []
    for key in keys:
        base, tuned, difference = (found[side].get(key) for side in ("base", "tuned", "difference"))
        if not (base and tuned and difference):
            continue
        rows = [
            _score("Base", base, charts.interval(base, 0, highest, "base"), words.number(base.get("mean"))),
            _score("Tuned", tuned, charts.interval(tuned, 0, highest, "tuned"), words.number(tuned.get("mean"))),
            _score(
                "Difference",
                difference,
                charts.interval(difference, -most, most, "difference", zero=True),
                words.signed(difference.get("mean")),
                signs=True,
            ),
        ]
        kind, in_words = judged(difference)
        blocks.append(
            element(
                "div",
                element("h3", NAMES[key], " ", element("span", in_words, class_=f"chip {kind}")),
                *rows,
                class_="metric",
            )
        )
    judge = found.get("judge") or {}
    decides = (
        "the win rate, which is missing" if judge.get("decides") and judge.get("failed") else NAMES.get(first, first)
    )
    rows_judged = found.get("rows")
    lead = (
        f"Base and tuned model have answered {words.number(rows_judged)} held-out rows. The dots are means, and the bars their "
        f"95% intervals, from 0 to {highest:g}. The interval of the difference is paired, row by row. endpoint.promote goes by "
        f"{decides}."
    )
    return section("scores", "Scores", element("div", *blocks, class_="metrics"), lead=lead)


def _score(name: str, entry: Mapping[str, Any], bar: Markup, mean: str, *, signs: bool = False) -> Markup:
    write = words.signed if signs else words.number
    between = f"{write(entry.get('low'))} to {write(entry.get('high'))}"
    return element(
        "div",
        element("span", name, class_="name"),
        bar,
        element("span", element("b", mean), element("small", between), class_="value"),
        class_="score",
    )


def judged(difference: Mapping[str, Any]) -> tuple[str, str]:
    """Return the colour and the words for a difference with its interval."""
    low, high = difference.get("low"), difference.get("high")
    if not isinstance(low, (int, float)) or not isinstance(high, (int, float)):
        return "fair", words.UNKNOWN
    if low > 0:
        return "good", "clearly better"
    if high < 0:
        return "bad", "clearly worse"
    return "fair", "no clear difference"


def _highest(entries: list[Mapping[str, Any] | None], *, both: bool = False) -> float:
    """Return the next ten above all intervals; with `both`, above their distance from 0."""
    values = [float(entry[end]) for entry in entries if entry for end in ("low", "high") if _number(entry.get(end))]
    top = max((abs(value) if both else value for value in values), default=1.0)
    return max(10.0 * math.ceil(top / 10), 1.0) if not both else max(top * 1.1, 1.0)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def habits(story: Story) -> Markup | None:
    """Return the lengths of the answers and the shares of bad ones."""
    found = story.scores
    if not found or not (found.get("tuned") or {}).get("words"):
        return None
    sides = {"Reference": found.get("reference") or {}, "Base": found["base"], "Tuned": found["tuned"]}
    lengths = [
        [name, *(words.number(side["words"].get(kind)) for kind in ("mean", "median", "p90"))]
        for name, side in sides.items()
        if side.get("words")
    ]
    shares = [[f"Answers {text}", *(_share(side, habit) for side in sides.values())] for habit, text in _HABITS.items()]
    return section(
        "habits",
        "Lengths and bad habits",
        element(
            "div",
            table("Words of the answers", ["Words", "Mean", "Median", "90th percentile"], lengths, numbers=(1, 2, 3)),
            table("Shares of bad answers", ["Share", *sides], shares, numbers=(1, 2, 3)),
            class_="pair",
        ),
    )


def _share(side: JsonObject, habit: str) -> str:
    of = (side.get("shares") or {}).get(habit)
    return "–" if of is None else words.share(of)  # noqa: RUF001 - a dash for a share that has no meaning


def samples(story: Story, limits: Limits) -> Markup | None:
    """Return held-out rows with reference, base and tuned side by side, which the browser filters."""
    rows = (story.evaluation or {}).get("samples") or []
    if not rows:
        return None
    shown = rows[: limits.samples]
    task = _shared_task(shown)
    kinds = (("", "All"), ("better", "Tuned better"), ("worse", "Tuned worse"), ("fault", "Repeats or is cut"))
    options = [element("option", text, value=kind) for kind, text in kinds]
    controls = element(
        "div",
        element("input", type="search", id="find", placeholder="Words in any text", aria_label="Words in any text"),
        element("select", *options, id="kind", aria_label="Kind of samples"),
        element("span", f"{len(shown)} of {len(shown)}", id="count", role="status"),
        class_="controls",
        hidden=True,
    )
    left_out = f" {len(rows) - len(shown)} more stand in evaluation.json." if len(rows) > len(shown) else ""
    lead = join(
        ["The first held-out rows, and some whose tuned answer repeats itself or is cut.", left_out]
        + ([" The task: ", element("q", cut(task, limits.line), dir="auto")] if task else [])
    )
    key = deciding(story.evaluation or {})  # A judge model's verdict is no score of these rows.
    articles = [_sample(number, row, key, limits, task) for number, row in enumerate(shown, 1)]
    return section("samples", "Samples", controls, element("div", *articles, id="rows"), lead=lead)


def _shared_task(rows: list[JsonObject]) -> str | None:
    """Return the system message that all rows have. None if they have none, or different ones."""
    found = {
        next((str(turn.get("content", "")) for turn in row.get("prompt") or [] if turn.get("role") == "system"), None)
        for row in rows
    }
    return found.pop() if len(found) == 1 else None


def _sample(
    number: int, row: JsonObject, key: str, limits: Limits, task: str | None, verdict: str | None = None
) -> Markup:
    """Return a row.

    Args:
        number: its number on the page.
        row: the row.
        key: the score that decides.
        limits: the limits of the page.
        task: the system message that the page has named already.
        verdict: the judge model's verdict, in words.
    """
    scored, name = row.get("scores") or {}, NAMES.get(key, key)
    base, tuned = ((scored.get(side) or {}).get(key) for side in ("base", "tuned"))
    faults = [_FAULTS.get(fault, fault) for fault in row.get("faults") or []]
    kinds = ["fault"] if faults else []
    if isinstance(base, (int, float)) and isinstance(tuned, (int, float)) and base != tuned:
        kinds.append("better" if tuned > base else "worse")
    heads = {
        "Reference": None,
        "Base": f"{name} {words.number(base)}" if _number(base) else None,
        "Tuned": f"{name} {words.number(tuned)}" if _number(tuned) else None,
    }
    texts = {"Reference": row.get("reference", ""), "Base": row.get("base", ""), "Tuned": row.get("tuned", "")}
    columns = [
        element(
            "div",
            element("h4", name, " ", element("small", heads[name]) if heads[name] else None),
            element(
                "p", cut(text, limits.text) if str(text).strip() else element("i", "no text"), class_="text", dir="auto"
            ),
            class_=name.lower(),
        )
        for name, text in texts.items()
    ]
    return element(
        "article",
        element(
            "h3",
            f"Row {number}",
            element("span", verdict, class_="chip fair") if verdict else None,
            *(element("span", fault, class_="chip bad") for fault in faults),
        ),
        _prompt(row, limits, task, opened=True),
        element("div", *columns, class_="answers"),
        class_="sample",
        data_kinds=" ".join(kinds) or None,
    )


def judge(story: Story, limits: Limits) -> Markup | None:
    """Return what the judge model has found, or why it has found nothing. None for a run without one."""
    found = (story.scores or {}).get("judge")
    if not found:
        return None
    if found.get("failed"):
        return section("judge", "Judge model", element("p", cut(found["failed"], limits.line)))
    kinds = {"wins": "Tuned better", "ties": "Neither", "losses": "Base better"}
    counts = [[name, words.number(found.get(kind))] for kind, name in kinds.items()]
    lead = (
        f"{found.get('model')} has compared both answers to {words.number(found.get('rows'))} rows, in both orders, by version "
        f"{found.get('rubric')} of Tuneway's rubric. The two orders disagree on {words.number(found.get('disagreeing'))} rows. "
        f"Without a verdict: {words.number(found.get('without_verdict'))}, not asked: {words.number(found.get('left_out'))}."
    )
    heads = {"win": "Tuned better", "tie": "Neither", "loss": "Base better"}
    rows = (story.judge or {}).get("samples") or []
    task = _shared_task(rows) if rows else None
    samples = [
        _sample(number, {**row, "faults": []}, "", limits, task, heads.get(str(row.get("kind"))))
        for number, row in enumerate(rows[: limits.samples], 1)
    ]
    return section(
        "judge", "Judge model", table("Rows by verdict", ["Verdict", "Rows"], counts, numbers=(1,)), *samples, lead=lead
    )


def asked(story: Story, limits: Limits) -> Markup | None:
    """Return what the served models have answered in their smoke tests."""
    parts: list[Markup] = []
    for name, rows in (("endpoint", story.smoke_test), ("model in Bedrock", story.bedrock_smoke_test)):
        if rows:
            parts += [
                element("h3", f"The {name}"),
                *(_asked(row, limits, _shared_task(rows)) for row in rows[: limits.samples]),
            ]
    return section("asked", "What the served models have answered", *parts) if parts else None


def _asked(row: JsonObject, limits: Limits, task: str | None) -> Markup:
    columns = [
        element("div", element("h4", head), element("p", cut(text, limits.text), class_="text", dir="auto"))
        for head, text in (("Reference", row.get("reference", "")), ("Answer", row.get("answer", "")))
    ]
    return element(
        "article",
        _prompt(row, limits, task),
        element("div", *columns, class_="answers"),
        class_="sample",
    )


def _prompt(row: JsonObject, limits: Limits, task: str | None, *, opened: bool = False) -> Markup:
    """Return what a row asks, folded unless `opened`. The message `task` is left out.

    The turns of a conversation have their roles. All but the last turns of a long one are folded, and the first of a very long
    one are left out.
    """
    turns = [turn for turn in row.get("prompt") or [] if turn.get("role") != "system" or turn.get("content") != task]
    if len(turns) == 1:
        return element("details", element("summary", "Dialogue"), _text(turns[0], limits), open=opened or None)
    said = sum(turn.get("role") != "system" for turn in turns)
    missing, turns = len(turns[: -limits.items]), turns[-limits.items :]
    shown = [
        element(
            "div",
            element("h4", str(turn.get("role", "")).capitalize()),
            _text(turn, limits),
            class_=f"turn {_TURNS.get(str(turn.get('role')), 'task')}",
        )
        for turn in turns
    ]
    note = [element("p", f"{missing:,} turns before these are not shown.", class_="cut")] if missing else []
    earlier = len(shown) - _SHOWN_TURNS
    if earlier > 1:
        folded = element("details", element("summary", f"{earlier} earlier turns"), *note, *shown[:earlier])
        shown, note = [folded, *shown[earlier:]], []
    name = f"Conversation of {said} turn{'s' * (said != 1)}"
    return element("details", element("summary", name), *note, *shown, class_="conversation", open=opened or None)


def _text(turn: JsonObject, limits: Limits) -> Markup:
    return element("p", cut(turn.get("content", ""), limits.text), class_="text", dir="auto", **scrolling("Dialogue"))
