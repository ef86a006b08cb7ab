"""Writes the model card of a tuned model: README.md in the form of the Hugging Face Hub, with the scores as `model-index`.

The fields are those of the Hub's specification (huggingface/hub-docs, modelcard.md). The card has no dialogue and no answer,
because a model may be published, and its data may not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.scores import NAMES, present
from report import words
from report.results import judged

if TYPE_CHECKING:
    from pipeline.contracts.values import JsonObject
    from report.story import Story

_HUB_METRICS = {
    **dict.fromkeys(("rouge1", "rouge2", "rougeL"), "rouge"),
    "chrF": "chrf",
    "exact": "exact_match",
    "macro_f1": "f1",
}
"""The names of scores among the Hub's metrics (https://huggingface.co/evaluate-metric), where they differ from ours."""

_LONGEST = 300
"""The most characters of a name in the card."""


def render(story: Story) -> str:
    """Return the model card of a run that has made a model."""
    return f"---\n{_lines(metadata(story))}---\n\n{_text(story)}"


def metadata(story: Story) -> JsonObject:
    """Return the card's metadata. A base model or dataset that is not on the Hub is not named there."""
    plan = story.plan or {}
    base, dataset, recipe = plan.get("base_model") or {}, plan.get("dataset") or {}, story.recipe or {}
    name, source = _name(base.get("name")), str(dataset.get("name") or "")
    hub_dataset = _name(source.removeprefix("hub:")) if source.startswith("hub:") else None
    quantized = recipe.get("quantization", "none") not in ("none", None)
    found: JsonObject = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if base.get("licence"):
        found["license"] = _name(base["licence"])
    if _is_hub_name(name):
        found |= {"base_model": name, "base_model_relation": "finetune"}
    if hub_dataset:
        found["datasets"] = [hub_dataset]
    scores = story.scores or {}
    types = {key: _HUB_METRICS.get(key, key) for key in present(scores)}
    found |= {"tags": ["tuneway", "qlora" if quantized else "lora"], "metrics": list(dict.fromkeys(types.values()))}
    described: JsonObject = {
        "type": hub_dataset or "private",
        "name": hub_dataset or "a private dataset",
        "split": "test",
    }
    if hub_dataset and dataset.get("revision"):
        described["revision"] = _name(dataset["revision"])
    tuned = scores.get("tuned") or {}
    metrics = [
        {"type": kind, "name": NAMES[key], "value": round(float(tuned[key]["mean"]), 2)}
        for key, kind in types.items()
        if key in tuned
    ]
    task = {"type": "text-generation", "name": "Text generation"}
    results = [{"task": task, "dataset": described, "metrics": metrics}]
    return found | {"model-index": [{"name": _title(story), "results": results}]}


def _title(story: Story) -> str:
    base = _name(((story.plan or {}).get("base_model") or {}).get("name") or "model").rstrip("/")
    return f"{base.rpartition('/')[2]}-tuneway-{story.run}"


def _name(text: object) -> str:
    """Return a name on one line, of at most `_LONGEST` characters."""
    return " ".join(str(text).split())[:_LONGEST]


def _is_hub_name(name: str) -> bool:
    return name.count("/") == 1 and not name.endswith("/") and not name.startswith("uploads/")


def _lines(value: Any, indent: str = "") -> str:
    """Return an object as YAML. Texts are in double quotes, so that none of them can be anything else."""
    lines = []
    for name, inner in value.items():
        if isinstance(inner, dict):
            lines.append(f"{indent}{name}:\n{_lines(inner, indent + '  ')}")
        elif isinstance(inner, list):
            lines.append(f"{indent}{name}:\n")
            for item in inner:
                shown = _lines(item, indent + "  ") if isinstance(item, dict) else f"{indent}  {_scalar(item)}\n"
                lines.append(f"{indent}- {shown[len(indent) + 2 :]}")
        else:
            lines.append(f"{indent}{name}: {_scalar(inner)}\n")
    return "".join(lines)


def _scalar(value: object) -> str:
    return repr(value) if isinstance(value, (int, float)) else f'"{"".join(map(_escaped, str(value)))}"'


def _escaped(one: str) -> str:
    """Return a character as it stands in a text in double quotes (YAML 1.2, 5.7). Half of a surrogate pair becomes U+FFFD."""
    if one in '"\\':
        return f"\\{one}"
    if "\ud800" <= one <= "\udfff":
        return "\ufffd"
    if one.isprintable():
        return one
    return f"\\u{ord(one):04X}" if ord(one) <= 0xFFFF else f"\\U{ord(one):08X}"


def _text(story: Story) -> str:
    """Return the card's text, in Markdown."""
    plan, record, recipe = story.plan or {}, story.record or {}, story.recipe or {}
    base, dataset, used = plan.get("base_model") or {}, plan.get("dataset") or {}, recipe.get("used") or {}
    metrics, manifest = story.metrics or {}, story.manifest or {}
    licence = (record.get("licences") or {}).get("dataset")
    method = "QLoRA" if recipe.get("quantization", "none") not in ("none", None) else "LoRA"
    revision = f" at revision {_quoted(base['revision'])}" if base.get("revision") else ""
    rows = ((manifest.get("splits") or {}).get("train") or {}).get("written")
    lines = [
        f"# {_plain(_title(story))}",
        "",
        f"This model is {_quoted(base.get('name'))}{revision}, tuned on {_quoted(dataset.get('name'))} by "
        f"Tuneway with {method}. The adapter is merged into the weights.",
        "",
        "## How to use it",
        "",
        *_use(manifest.get("system", record.get("instruction"))),
        "",
        "## Training",
        "",
        "| | |",
        "|---|---|",
    ]
    facts = (
        ("Training rows", rows if rows is None else words.number(rows)),
        ("Epochs", recipe.get("epochs")),
        ("Optimizer steps", used.get("steps")),
        ("Learning rate", recipe.get("learning_rate")),
        (
            "LoRA rank and alpha",
            f"{recipe.get('lora_r')}, {recipe.get('lora_alpha')}" if recipe.get("lora_r") else None,
        ),
        ("Longest row in tokens", recipe.get("max_length")),
        ("Number format", used.get("dtype")),
        ("Evaluation loss before and after", _losses(metrics)),
        ("Licence of the base model", base.get("licence") or words.UNKNOWN),
        ("Licence of the dataset", licence or words.UNKNOWN),
    )
    lines += [f"| {name} | {_plain(value)} |" for name, value in facts if value is not None]
    lines += ["", "## Evaluation", "", _evaluation(story), ""]
    return "\n".join(lines)


def _use(task: str | None) -> list[str]:
    """Return how the model is asked. `task` is the system message that all training rows share, or None."""
    if not task:
        return ["The model takes a chat, with a system turn only where its training rows have one."]
    return [
        "The model takes a chat: a system turn with the task, and then the user's turn. It was trained on this task:",
        "",
        *(f"> {_plain(line)}" for line in str(task).splitlines()),
    ]


def _losses(metrics: JsonObject) -> str | None:
    before, after = metrics.get("eval_loss_before"), metrics.get("eval_loss")
    return None if after is None else f"{words.number(before, 3)}, {words.number(after, 3)}"


def _evaluation(story: Story) -> str:
    scores = story.scores or {}
    head = [
        f"Greedy answers to {words.number(scores.get('rows'))} held-out rows. Means with 95% bootstrap intervals, from 0 to "
        "100; the interval of the difference is paired, row by row.",
        "",
        "| Metric | Base model | This model | Difference | |",
        "|---|---|---|---|---|",
    ]
    rows = []
    for key in present(scores):
        base, tuned, difference = ((scores.get(side) or {}).get(key) for side in ("base", "tuned", "difference"))
        if base and tuned and difference:
            mean, low, high = (words.signed(difference[part]) for part in ("mean", "low", "high"))
            between = f"{mean} ({low} to {high})"
            rows.append(f"| {NAMES[key]} | {_mean(base)} | {_mean(tuned)} | {between} | {judged(difference)[1]} |")
    return "\n".join([*head, *rows, *_judge(scores.get("judge") or {})])


def _judge(found: JsonObject) -> list[str]:
    """Return who has found the win rate. A model card has no text of a row."""
    if not found.get("win_rate") or found.get("failed"):
        return []
    counts = ", ".join(f"{words.number(found[kind])} {kind}" for kind in ("wins", "ties", "losses"))
    return [
        "",
        f"The win rate is that of {words.number(found['rows'])} rows ({counts}; a tie is half a win), which "
        f"{_quoted(found['model'])} on Amazon Bedrock has compared in both orders of the two answers.",
    ]


def _mean(entry: JsonObject) -> str:
    return f"{words.number(entry['mean'])} ({words.number(entry['low'])} to {words.number(entry['high'])})"


def _plain(value: object) -> str:
    """Return a text on one line that Markdown and HTML take as text."""
    text = "".join(one if one.isprintable() else " " for one in str(value))[: _LONGEST * 4]
    return "".join(f"\\{one}" if one in "\\`*_{}[]<>()#|!~&$" else one for one in text)


def _quoted(value: object) -> str:
    """Return a name as code."""
    return f"`{''.join(one for one in _name(value) if one.isprintable() and one != '`')}`"
