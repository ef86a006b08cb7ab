"""The head of a page: how the run ended, its most important figures, and the failure with its remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.scores import NAMES, important
from report import words
from report.limits import cut, first
from report.markup import Markup, code, element, join, scrolling

if TYPE_CHECKING:
    from report.limits import Limits
    from report.story import Story

_ENDED = {"FAILED": "failed", "TIMED_OUT": "ran out of time", "ABORTED": "was aborted"}


def title(story: Story) -> str:
    """Return the page's title."""
    return f"Run {story.run}: {verdict(story)[1]}"


def verdict(story: Story) -> tuple[str, str, str]:
    """Return the colour of the verdict, its one or two words, and its sentence."""
    if story.failure and story.failure.error == "Tuneway.Refused":
        return "bad", "Refused", "The run was refused before anything was spent."
    if story.status in _ENDED:
        at = f" in the step {story.failure.step}" if story.failure and story.failure.step else ""
        serves = " Its model serves nevertheless." if story.serving else ""
        return "bad", story.status.replace("_", " ").capitalize(), f"The run {_ENDED[story.status]}{at}.{serves}"
    if story.status == "RUNNING":
        return "fair", "Running", "The run goes on."
    if serving := story.serving:
        ends = [words.moment(serving["until"])] if serving.get("until") else []
        if idle := ((story.plan or {}).get("deploy") or {}).get("idle"):
            ends.append(f"nobody has used it for {idle['minutes']} minutes")
        until = f" until {', or until '.join(ends)}" if ends else ", without an end"
        still = " Bedrock is still at work." if story.status == "SERVING" else ""
        which = f"The model of run {story.serves_again}" if story.serves_again else "The tuned model"
        return "good", "Serving", f"{which} serves at the endpoint {serving['endpoint']}{until}.{still}"
    return ("fair", *_without_service(story))


def _without_service(story: Story) -> tuple[str, str]:
    """Return the words and the sentence for a run that ended well and whose model does not serve."""
    record = story.record
    if not record:
        return "Ended", "The run ended well. Its record is not there, so it is not known whether its model serves."
    if record.get("serving"):
        return "Served", "The model has served. Its endpoint has ended since, or another run's model has taken it."
    if record.get("promoted"):
        taken = (story.deployed or {}).get("phase") == "superseded"
        other = " Another run's model has taken the endpoint." if taken else ""
        return "Promoted", f"The tuned model was promoted, and does not serve.{other}"
    return "Not promoted", "The tuned model was not promoted, so it does not serve. It stays in the bucket."


def header(story: Story, limits: Limits) -> Markup:
    """Return the head: the verdict, its reason, and what was tuned on what."""
    kind, word, sentence = verdict(story)
    record = story.record or {}
    why = record.get("why")
    return element(
        "header",
        element("p", "Tuneway", element("span", " · report of run "), code(story.run), class_="brand"),
        element("h1", _subject(story)),
        element("p", element("span", word, class_=f"chip {kind}"), " ", cut(sentence, limits.line), class_="verdict"),
        element("p", cut(why, limits.line), class_="why") if why else None,
        element(
            "p",
            f"Began {words.moment(story.started)}. ",
            f"Redriven {story.redrives} times. "
            if story.redrives > 1
            else "Redriven once. "
            if story.redrives
            else None,
            f"Page written {words.moment(story.written)}.",
            class_="times",
        ),
    )


def _subject(story: Story) -> Markup:
    plan = story.plan or {}
    model = (plan.get("base_model") or {}).get("name") or (story.record or {}).get("base_model")
    dataset = (plan.get("dataset") or {}).get("name")
    if not model:
        return join(["A run that was not planned"])
    if story.serves_again:
        return join([f"{_short(model)}, tuned by run {story.serves_again}, served again"])
    return join([_short(model), f" tuned on {_short(dataset)}" if dataset else ""])


def _short(name: str) -> str:
    """Return the last part of a name with slashes, at most 80 characters of it."""
    return name.removeprefix("hub:").rstrip("/").rpartition("/")[2][:80]


def tiles(story: Story) -> Markup | None:
    """Return the most important figures, each with a word about it."""
    scores, metrics = story.scores or {}, story.metrics or {}
    found: list[Markup] = []
    for key in important(scores):
        if tuned := (scores.get("tuned") or {}).get(key):
            base = scores["base"][key]
            gain = words.signed((scores.get("difference") or {}).get(key, {}).get("mean"))
            found.append(
                _tile(NAMES[key], words.number(tuned["mean"]), f"{gain} on the base's {words.number(base['mean'])}")
            )
    if isinstance(metrics.get("eval_loss"), (int, float)):
        before = words.number(metrics.get("eval_loss_before"), 3)
        found.append(_tile("Evaluation loss", words.number(metrics["eval_loss"], 3), f"before training {before}"))
    if isinstance(metrics.get("tokens_per_second"), (int, float)):
        tokens = f"{words.number(metrics.get('tokens'))} tokens"
        found.append(_tile("Speed", words.number(metrics["tokens_per_second"], 0), f"tokens/s, {tokens}"))
    if story.phases:
        end = story.phases[-1].end or story.written
        goes_on = "and Bedrock goes on" if story.status == "SERVING" else f"{len(story.phases)} steps"
        found.append(_tile("Time", words.duration((end - story.started).total_seconds()), goes_on))
    if story.spent:
        found.append(_tile("Cost so far", words.dollars(story.spent.get("total")), "US dollars, before tax"))
    return element("div", *found, class_="tiles") if found else None


def _tile(name: str, figure: str, about: str) -> Markup:
    return element(
        "div",
        element("span", name, class_="label"),
        element("span", figure, class_="figure"),
        element("span", about, class_="about"),
        class_="tile",
    )


def failure(story: Story, limits: Limits) -> Markup | None:
    """Return the failure: step, reason, remedy, and the last lines of the job's log."""
    if not story.failure:
        return None
    found = story.failure
    log: list[Any] = []
    if story.log:
        lines = story.log[-limits.log :]
        text = "\n".join(line[: limits.line] for line in lines)
        shown = (
            f"The last {len(lines)} lines of the training job's log" if len(lines) > 1 else "The last line of the log"
        )
        log = [element("h3", shown), element("pre", text, class_="log", dir="auto", **scrolling(shown))]
    return section(
        "failure",
        "What went wrong",
        element(
            "dl",
            *_pair("Step", code(found.step) if found.step else "none was entered"),
            *_pair("Error", code(found.error[: limits.line])),
            *_pair("Reason", element("span", cut(found.reason or "no reason was given", limits.line), dir="auto")),
            *_pair("What to do", element("strong", cut(found.remedy, limits.line))),
            class_="failure",
        ),
        *log,
    )


def _pair(name: str, value: object) -> tuple[Markup, Markup]:
    return element("dt", name), element("dd", value)


def notes(story: Story, limits: Limits) -> Markup | None:
    """Return the run's warnings, and the parts that could not be read."""
    lines = [*story.warnings, *story.unread]
    if not lines:
        return None
    shown, rest = first(lines, limits.items)
    items = [element("li", cut(line, limits.line), dir="auto") for line in shown]
    return section("warnings", "Warnings", element("ul", *items, class_="warnings"), rest)


def section(id: str, name: str, *content: object, lead: object = None) -> Markup:
    """Return a section of the page with its heading, which the page's contents name.

    Args:
        id: its anchor.
        name: its heading.
        content: its parts.
        lead: a sentence below the heading.
    """
    lead_line = element("p", lead, class_="lead") if lead else None
    return element("section", element("h2", name), lead_line, *content, id=id)
