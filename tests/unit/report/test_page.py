"""The page: its parts, its size for any input, and texts that cannot leave their place."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from report import charts, overview, results, words
from report.limits import MOST_BYTES, Limits, thinned
from report.markup import data, element, escaped
from report.page import render
from report.story import Story
from tests.unit.report import stories
from tests.unit.report.stories import BUCKET, FAILED, GOOD, PLAN, RECORD, REFUSED, RUN, hostile, of_a_task

ENDLESS = {**RECORD, "serving": {**RECORD["serving"], "until": None}}


class Reader(HTMLParser):
    """Collects a page's elements and its texts outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def read(story: Story) -> Reader:
    return Reader(render(story))


def test_a_good_runs_page_has_every_part() -> None:
    page = read(GOOD)
    ids = [attributes["id"] for tag, attributes in page.elements if tag == "section"]
    assert " ".join(ids) == "warnings model training scores habits samples asked data time money settings use"
    for text in (
        "Llama-3.2-1B-Instruct tuned on samsum",
        "The tuned model serves at the endpoint tuneway-0a1b2c3d until 2026-11-27 15:00 UTC, or until nobody has used it for "
        "60 minutes.",
        "because the lower end of the difference's 95% interval is above 0",
        "ROUGE-L clearly better",
        "+18.4 to +21.2",
        "Answers copied from the dialogue 0% 5% 5%",
        "duplicate of an earlier row 19",
        "Deploy (attempt 2)",
        "Launching instances",
        "Training $0.81 $4.22 $0.87 billed: 2,224 s of ml.g5.xlarge",
        "Together $11.01 $17.34 not known",
        "2,100 tokens/s of run 0a1b2c3d4e",
        "51.5% of the 2,224 seconds that SageMaker bills for the job were training.",
        "$1.408 per hour, until 2026-11-27 15:00 UTC at the latest",
        "training.epochs 1 2 the execution's input",
        "endpoint.time_to_live_minutes 240 480 config.yaml",
        "https://runtime.sagemaker.us-west-2.amazonaws.com/endpoints/tuneway-0a1b2c3d/openai/v1",
        f"aws s3 rm --recursive s3://{BUCKET}/models/{RUN}/ "
        f"aws sagemaker delete-model-package --region us-west-2 --model-package-name {RECORD['model_package']}",
        "tuneway ask chat.txt --model bedrock With the AWS CLI aws bedrock-runtime converse --region us-west-2",
        f"Serve it again tuneway serve {RUN} With the AWS CLI aws stepfunctions start-execution",
        "deletes this endpoint alone. tuneway down With the AWS CLI "
        "aws sagemaker delete-endpoint --region us-west-2 --endpoint-name tuneway-0a1b2c3d",
        f"""--input '{{"serve": "{RUN}"}}'""",
        "Redriven once.",
    ):
        assert text in page.text, text
    assert len([1 for tag, attributes in page.elements if tag == "article" and "data-kinds" in attributes]) == 22


def test_a_page_shows_the_chosen_metrics_alone_and_whole_conversations() -> None:
    page = read(of_a_task())
    for name in ("exact match", "valid JSON", "field accuracy", "accuracy", "macro F1"):
        assert f"{name} clearly better" in page.text
    assert "endpoint.promote goes by accuracy." in page.text
    scored = page.text[page.text.index(" Scores Base and tuned") :]
    assert not re.search("ROUGE|chrF", scored)
    assert "Base accuracy 0.0 green" in page.text
    assert [attributes["data-kinds"] for tag, attributes in page.elements if "data-kinds" in attributes] == [
        "better"
    ] * 3
    conversation = "User Which colour has the lamp? Assistant It is green. User And the shade?"
    assert f"Conversation of 3 turns {conversation}" in page.text
    assert "Conversation of 3 turns System You sell lamps. User Which colour" in page.text
    assert "Conversation of 7 turns 4 earlier turns User Hi, I am Ann. Assistant Hello, Ann. User" in page.text
    assert [attributes for tag, attributes in page.elements if tag == "p" and attributes.get("class") == "text"]
    assert all(
        attributes.get("dir") == "auto"
        for tag, attributes in page.elements
        if tag == "p" and attributes.get("class") == "text"
    )
    # The rows have no common task.
    assert " The task: " not in page.text
    assert "Task Summarize" not in page.text
    assert "accuracy 72.5 +32.5 on the base's 40.0" in page.text


def test_a_failed_runs_page_has_step_reason_remedy_and_log() -> None:
    page = read(FAILED)
    assert "Failed The run failed in the step Train." in page.text
    assert (
        "Step Train Error TrainingFailed Reason training job j Failed: AlgorithmError: the loss became nan" in page.text
    )
    assert "What to do a redrive would fail in the same way" in page.text
    assert "The last 60 lines of the training job's log" in page.text
    assert "step=59/290" in page.text
    assert "serve it again" not in page.text
    assert json.loads(re.search('id="series">(.*?)</script>', render(FAILED))[1])["loss"][0][0] == 1  # type: ignore[index]


def test_a_refused_runs_page_says_that_nothing_was_spent() -> None:
    page = read(REFUSED)
    assert "Refused The run was refused before anything was spent." in page.text
    assert "training.epochs: must be 1 or more, not 0" in page.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"status": "ABORTED", "record": None}, "The run was aborted"),
        ({"status": "TIMED_OUT"}, "The run ran out of time. Its model serves nevertheless."),
        ({"status": "SERVING"}, "Bedrock is still at work."),
        ({"status": "RUNNING", "record": None}, "The run goes on."),
        ({"record": ENDLESS, "plan": {**PLAN, "deploy": {"idle": None}}}, "tuneway-0a1b2c3d, without an end."),
        ({"record": ENDLESS}, "tuneway-0a1b2c3d until nobody has used it for 60 minutes."),
        ({"spent": {**RECORD["spent"], "ongoing": []}}, "The model has served. Its endpoint has ended since"),
        ({"record": {**RECORD, "serving": None}, "deployed": {"phase": "superseded"}}, "Another run's model has taken"),
        ({"record": {**RECORD, "serving": None, "promoted": False}}, "The tuned model was not promoted"),
        ({"plan": {**PLAN, "serve": {"run": "0123456789"}}}, "The model of run 0123456789 serves"),
        ({"record": None}, "it is not known whether its model serves"),
    ],
)
def test_the_verdict_is_in_words(changes: dict[str, Any], words: str) -> None:
    assert words in overview.verdict(GOOD._replace(**changes))[2]


def test_what_a_run_has_cost_is_not_known_if_nobody_has_counted_it() -> None:
    uncounted = read(FAILED._replace(spent=None)).text
    assert "Endpoint $6.10 $6.10 not known Together $11.01 $17.34 not known" in uncounted
    assert "Endpoint $6.10 $6.10 – Together" in read(FAILED).text  # noqa: RUF001 - a part that it has not used
    undated = {**stories.ESTIMATE, "prices_as_of": ""}
    page = read(FAILED._replace(spent=None, plan={**PLAN, "estimate": undated}))
    assert "US dollars, before tax. “So far” is" in page.text


def test_a_served_models_settings_may_come_from_its_own_run() -> None:
    page = read(GOOD._replace(plan={**PLAN, "serve": {"run": "0123456789"}}))
    assert "training.epochs 1 2 the execution's input or run 0123456789" in page.text


def test_a_model_that_was_not_promoted_is_served_again_by_an_input_that_promotes_it() -> None:
    record = {**RECORD, "serving": None, "promoted": False}
    page = read(GOOD._replace(record=record)).text
    assert '{"serve": "9f8e7d6c5b", "endpoint": {"promote": "always"}}' in page
    assert f"tuneway serve {RUN} --not-promoted" in page
    assert "tuneway down" not in page


def test_an_endpoint_that_nobody_used_while_bedrock_worked_is_neither_called_nor_deleted() -> None:
    page = read(GOOD._replace(spent={**RECORD["spent"], "ongoing": RECORD["spent"]["ongoing"][1:]})).text
    assert "tuneway serve" in page
    assert "tuneway down" not in page
    assert "OpenAI client" not in page
    failed = GOOD._replace(status="FAILED", spent={**RECORD["spent"], "ongoing": []})
    assert "serves nevertheless" not in overview.verdict(failed)[2]


def test_the_page_allows_its_own_scripts_alone_and_loads_nothing() -> None:
    page = render(GOOD)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy.startswith("default-src &#x27;none&#x27;; style-src &#x27;sha256-")
    assert "unsafe" not in policy
    for tag, attributes in read(GOOD).elements:
        assert not {"src", "srcset", "onerror", "onload", "action", "style"} & attributes.keys(), tag
        assert (attributes.get("href") or "#").startswith("#"), attributes


def elements_of(story: Story) -> list[tuple[str, tuple[str, ...]]]:
    """Return the page's elements with the names of their attributes."""
    return [(tag, tuple(attributes)) for tag, attributes in read(story).elements]


def test_hostile_texts_stay_texts() -> None:
    assert elements_of(hostile()) == elements_of(hostile("plain"))
    page = render(hostile())
    assert "<script>window" not in page
    assert "<img" not in page
    page.encode()  # every character can be written
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", page)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(min_size=1, max_size=60))
def test_no_text_changes_the_pages_elements(text: str) -> None:
    # The length of some lists follows from blank texts, so that the plain text has blanks where this one has them.
    plain = "plain" if text.strip() else text
    assert elements_of(hostile(text)) == elements_of(hostile(plain))
    render(hostile(text)).encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_data_is_read_back_and_cannot_end_its_script(value: Any) -> None:
    text = data(value)
    assert json.loads(text) == value
    assert not set("<>&\u2028\u2029") & set(text)


def test_a_text_is_escaped_and_markup_is_not() -> None:
    assert (
        element("p", "<b>", element("b", "x"), None, False, class_='a"b') == '<p class="a&quot;b">&lt;b&gt;<b>x</b></p>'
    )
    assert escaped("a\x00\ud800b") == "a\ufffd?b"


def large(**lists: int) -> Story:
    """Return a story that is far larger than a page may be. Each character becomes six bytes."""
    text = '"' * 20_000
    row = stories.with_texts({"reference": "", "base": "", "tuned": "", "prompt": [{"role": "", "content": ""}]}, text)
    many = 3_000
    return hostile(text[:3000])._replace(
        evaluation={**stories.SCORES, "samples": [row] * 60},
        history=[{"step": step, "loss": 1 / 3, "learning_rate": 1 / 7, "eval_loss": 1 / 9} for step in range(200_000)],
        log=[text] * many,
        warnings=[text] * many,
        phases=GOOD.phases,
        job_phases=GOOD.job_phases,
        record={**RECORD, "changed": {}},
        plan={
            **PLAN,
            "record": {"changed": {f"{text}{number}": {"default": text, "value": text} for number in range(many)}},
        },
        manifest={
            "files": [{"name": text, "bytes": 1, "read": 1, "accepted": 1, "rejected": 0}] * many,
            "rejected": {f"{text}{number}": 1 for number in range(many)},
            "rules": [text] * many,
            "splits": {"train": {"written": 1}},
        },
    )


def test_a_page_stays_below_one_megabyte_and_says_what_it_leaves_out() -> None:
    page = render(large())
    assert len(page.encode()) <= MOST_BYTES
    assert "more characters" in page
    assert "more are not shown" in page
    assert "more stand in evaluation.json" in page
    assert len(render(GOOD).encode()) < 150_000


def test_very_long_conversations_stay_within_the_page() -> None:
    turn = {"role": "user", "content": "ok"}
    long = [{**turn, "role": ("user", "assistant")[number % 2]} for number in range(20_001)]
    story = stories.of_a_judge()
    (row,) = (story.judge or {})["samples"]
    page = render(story._replace(judge={"samples": [{**row, "prompt": long}] * 9}))
    assert len(page.encode()) <= MOST_BYTES
    assert "Conversation of 20001 turns" in page
    shown = read(story._replace(judge={"samples": [{**row, "prompt": long[:251]}]})).text
    assert (
        "Conversation of 251 turns 197 earlier turns 51 turns before these are not shown. Assistant ok User ok" in shown
    )


def test_many_phases_stay_within_the_page() -> None:
    phases = [stories.span("Deploy", number, number + 1, number) for number in range(20_000)]
    page = render(GOOD._replace(phases=phases))
    assert len(page.encode()) <= MOST_BYTES
    assert "19,800 more are not shown." in page
    assert "(attempt 19999)" in page


@pytest.mark.parametrize("part", [name for name in Story._fields if name in Story._field_defaults])
def test_a_page_is_written_without_any_one_part(part: str) -> None:
    assert "<h1>" in render(GOOD._replace(**{part: Story._field_defaults[part]}))


def test_a_page_is_written_when_nothing_is_known() -> None:
    bare = Story(RUN, stories.EXECUTION, "FAILED", stories.BEGAN, stories.BEGAN, "us-west-2", BUCKET)
    assert "A run that was not planned" in render(bare)


def test_samples_of_an_earlier_version_have_no_scores() -> None:
    rows = [
        {name: row[name] for name in ("prompt", "reference", "base", "tuned")} for row in GOOD.evaluation["samples"]
    ]  # type: ignore[index]
    assert "Tom picks Mia up at nine." in read(GOOD._replace(evaluation={**stories.SCORES, "samples": rows})).text


def test_the_series_keep_their_ends_and_leave_out_what_is_no_number() -> None:
    history = [{"step": step, "loss": 5 - step / 100} for step in range(400)] + [
        {"step": 3, "loss": float("nan")},
        {"loss": 1},
    ]
    found = charts.series(history, 50)
    assert found.keys() == {"loss"}
    assert (len(found["loss"][0]), found["loss"][0][0], found["loss"][0][-1]) == (50, 0, 399)
    assert thinned([1, 2, 3], 1) == [3]
    assert Limits().halved().samples == Limits().samples // 2


def test_the_differences_are_judged_by_their_intervals() -> None:
    assert [results.judged({"low": low, "high": low + 2})[1] for low in (0.1, -1, -3)] == [
        "clearly better",
        "no clear difference",
        "clearly worse",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h"), (7380, "2 h 3 min"), (90000, "25 h")],
)
def test_a_duration_is_in_words(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


def test_a_time_is_in_utc_and_a_text_that_is_none_stays() -> None:
    assert words.moment("2026-11-27T15:00:59+02:00") == "2026-11-27 13:00 UTC"
    assert [words.moment(text) for text in ("later", "0001-01-01T00:00:00+01:00")] == [
        "later",
        "0001-01-01T00:00:00+01:00",
    ]


def test_what_is_not_known_is_said_so() -> None:
    assert words.dollars(None) == words.number(None) == words.share(None) == words.size(None) == "not known"
    assert (words.dollars(0.0), words.number(float("inf")), words.size(1500)) == ("$0.00", "not known", "1.5 kB")


def test_a_judges_win_rate_counts_and_some_rows_are_on_the_page() -> None:
    page = read(stories.of_a_judge())
    ids = [attributes["id"] for tag, attributes in page.elements if tag == "section"]
    assert ids[ids.index("scores") + 1] == "judge"
    for text in (
        "endpoint.promote goes by win rate.",
        "win rate clearly better",
        "us.amazon.nova-lite-v1:0 has compared both answers to 39 rows, in both orders, by version 1 of Tuneway's rubric. The "
        "two orders disagree on 9 rows. Without a verdict: 0, not asked: 2.",
        "Tuned better 30 Neither 0 Base better 9",
        "Row 1 Tuned better Conversation of 3 turns User Which colour has the lamp?",
        "snow",
    ):
        assert text in page.text, text
    assert " judge " not in " ".join(
        attributes["id"] or "" for tag, attributes in read(GOOD).elements if tag == "section"
    )


def test_a_judge_that_failed_is_told_with_its_reason() -> None:
    page = read(stories.of_a_judge("AccessDeniedException; ask for access <b>"))
    assert "Judge model AccessDeniedException; ask for access <b>" in page.text
    before = page.text.partition("Judge model AccessDeniedException")[0]
    assert "endpoint.promote goes by the win rate, which is missing." in before
    assert "win rate" not in before.replace("goes by the win rate", "")
