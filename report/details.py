"""The details of a page: data, time, money, settings, and what the user can do with the model."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from report import bill, charts, words
from report.limits import cut, first
from report.markup import Markup, code, element, join, program, table
from report.overview import section

if TYPE_CHECKING:
    from pipeline.contracts.values import JsonObject
    from report.limits import Limits
    from report.story import Phase, Story

_PARTS = {"training": "Training", "bedrock": "Bedrock", "endpoint": "Endpoint", "judge": "Judge", "total": "Together"}
_INSTALLS = " installs it into .venv/bin. Without the project, the AWS CLI does it."
_JOB = {"LaunchingMLInstances": "Launching instances", "PreparingTrainingStack": "Preparing"}


def model(story: Story, limits: Limits) -> Markup | None:
    """Return what was trained on what, with which recipe."""
    plan, record, recipe = story.plan or {}, story.record or {}, story.recipe or {}
    base, dataset, metrics = plan.get("base_model") or {}, plan.get("dataset") or {}, story.metrics or {}
    rows: list[tuple[str, object]] = []
    if base:
        revision = f" at {base['revision'][:12]}" if base.get("revision") else ""
        licence = f", licence {base['licence']}" if base.get("licence") else ", licence not known"
        parameters = f", {base['parameters']:,} parameters" if base.get("parameters") else ""
        rows.append(("Base model", join([code(base.get("name")), f"{revision}{parameters}{licence}"])))
    if dataset:
        revision = f" at {dataset['revision'][:12]}" if dataset.get("revision") else ""
        licence = f", licence {dataset['licence']}" if dataset.get("licence") else ", licence not known"
        rows.append(("Dataset", join([code(dataset.get("name")), f"{revision}{licence}"])))
    if story.serves_again:
        rows.append(("Model", f"that of run {story.serves_again}, which is served again"))
    used = recipe.get("used") or {}
    if recipe:
        adapter = "QLoRA" if recipe.get("quantization", "none") not in ("none", None) else "LoRA"
        names = (
            ("epochs", "epochs"),
            ("max_length", "tokens at most"),
            ("batch_size", "rows per batch"),
            ("learning_rate", "learning rate"),
            ("lr_scheduler", "scheduler"),
            ("optimizer", "optimizer"),
            ("seed", "seed"),
        )
        shown = [f"{text} {words.value(recipe[name])}" for name, text in names if recipe.get(name) is not None]
        rows.append(("Recipe", ", ".join([adapter, *shown])))
    if used:
        facts = (("device", "device"), ("dtype", "format"), ("attention", "attention"), ("steps", "steps"))
        shown = [f"{text} {words.value(used[name])}" for name, text in facts if used.get(name) is not None]
        rows.append(("Used", ", ".join(shown)))
    if isinstance(metrics.get("peak_memory_gib"), (int, float)) and metrics["peak_memory_gib"] > 0:
        rows.append(("Peak memory", f"{metrics['peak_memory_gib']:.1f} GiB"))
    manifest = story.manifest or {}
    known = (record or plan.get("record") or {}).get("instruction")
    # Rows of messages have their own system message.
    if instruction := manifest.get("system", known):
        rows.append(("Task", element("span", cut(instruction, limits.line), dir="auto")))
    if uri := record.get("model"):
        rows.append(("Model folder", code(uri)))
    if version := record.get("model_package"):
        rows.append(("Model Registry", code(version)))
    if not rows:
        return None
    return section("model", "What was trained on what", _pairs(rows, limits))


def _pairs(rows: list[tuple[str, object]], limits: Limits) -> Markup:
    parts: list[Markup] = []
    for name, value in rows:
        shown = value if isinstance(value, Markup) else cut(value, limits.line)
        parts += [element("dt", name), element("dd", shown)]
    return element("dl", *parts)


def data(story: Story, limits: Limits) -> Markup | None:
    """Return data prep's manifest: rows by split, rejected rows by reason, and the files that were read."""
    manifest = story.manifest
    if not manifest:
        return None
    splits = manifest.get("splits") or {}
    kinds = sorted(
        {name for split in splits.values() if isinstance(split, dict) for name, of in split.items() if _count(of)}
    )
    rows = [[name, *(words.number((split or {}).get(kind)) for kind in kinds)] for name, split in splits.items()]
    parts: list[Any] = []
    if rows and kinds:
        head = ["Split", *(kind.replace("_", " ") for kind in kinds)]
        parts.append(table("Rows by split", head, rows, numbers=range(1, len(head))))
    rejected = _rejected(manifest)
    parts.append(element("h3", "Rejected rows"))
    if rejected:
        reasons, rest = first(sorted(rejected.items(), key=lambda one: -one[1]), limits.items)
        shown = [[cut(reason, limits.line), words.number(of)] for reason, of in reasons]
        parts += [table("Rejected rows by reason", ["Reason", "Rows"], shown, numbers=(1,)), rest]
    else:
        parts.append(element("p", "No row was rejected."))
    files = manifest.get("files") or []
    if files:
        listed, rest = first(files, limits.items)
        lines: list[list[object]] = [
            [
                element("span", cut(one.get("name"), limits.line), dir="auto"),
                words.size(one.get("bytes")),
                *(words.number(one.get(kind)) for kind in ("read", "accepted", "rejected")),
            ]
            for one in listed
        ]
        head = ["File", "Size", "Rows read", "Accepted", "Rejected"]
        shown_files = join([table("Files that were read", head, lines, numbers=(1, 2, 3, 4)), rest])
        parts.append(element("details", element("summary", f"{len(files):,} files that were read"), shown_files))
    rules, rest = first(manifest.get("rules") or [], limits.items)
    if rules:
        listed_rules = element("ul", *(element("li", cut(rule, limits.line)) for rule in rules))
        parts.append(element("details", element("summary", "The rules of the preparation"), listed_rules, rest))
    return section("data", "Data", *parts)


def _count(of: object) -> bool:
    return isinstance(of, int) and not isinstance(of, bool)


def _rejected(manifest: JsonObject) -> dict[str, int]:
    """Return the manifest's number of rejected rows by reason, of rows that are in no output."""
    found = manifest.get("rejected")
    return {str(reason): count for reason, count in found.items() if _count(count)} if isinstance(found, dict) else {}


def time(story: Story, limits: Limits) -> Markup | None:
    """Return the time line of the execution's states, and that of the training job."""
    if not story.phases:
        return None
    seconds = (story.metrics or {}).get("seconds")
    parts: list[Any] = [*_time_line(story.phases, story, limits, {})]
    if story.job_phases:
        parts += [
            element("h3", "The training job"),
            element("p", code(story.job), class_="lead") if story.job else None,
            *_time_line(story.job_phases, story, limits, _JOB),
        ]
    if isinstance(seconds, dict) and seconds:
        rows = [
            [name.replace("_", " "), words.duration(of)] for name, of in seconds.items() if isinstance(of, (int, float))
        ]
        parts.append(
            element(
                "details",
                element("summary", "Phases of the job's program"),
                table("Phases of the job", ["Phase", "Time"], rows, numbers=(1,)),
            )
        )
    return section("time", "Time", *parts)


def _time_line(phases: list[Phase], story: Story, limits: Limits, labels: dict[str, str]) -> list[Markup]:
    """Return a time line of the last phases, and a line that says how many are left out."""
    last, rest = first(phases[::-1], limits.items)
    return [rest, charts.time_line(last[::-1], story.written, labels)]


def money(story: Story, limits: Limits) -> Markup | None:
    """Return the money by part: what was expected, the most that it can be, and what it has cost so far."""
    record = story.record or {}
    estimate = (story.plan or {}).get("estimate") or record.get("estimate")
    spent = story.spent
    if not estimate and not spent:
        return None
    estimate, expected = estimate or {}, (estimate or {}).get("expected") or {}
    real = {part["part"]: part for part in (spent or {}).get("parts") or []}
    rows: list[list[object]] = []
    for name, text in _PARTS.items():
        part = real.get(name)
        if name == "judge" and not part and not estimate.get(name):
            continue
        paid = part["usd"] if part else (spent or {}).get("total") if name == "total" else None
        how = join([part["basis"], ": ", cut(part["how"], limits.line)]) if part else ""
        # A part that the run has not used has a dash. If nobody has counted the cost, no part is known.
        so_far = words.dollars(paid) if part or name == "total" or spent is None else "–"  # noqa: RUF001
        rows.append([text, words.dollars(expected.get(name)), words.dollars(estimate.get(name)), so_far, how])
    parts: list[Any] = [
        table(
            "Money by part",
            ["Part", "Expected", "At most", "So far", "How it was counted"],
            rows,
            numbers=(1, 2, 3),
            class_="money",
        )
    ]
    if expected.get("assumption"):
        parts.append(element("p", "Expected from: ", cut(expected["assumption"], limits.line)))
    if unknown := estimate.get("unknown"):
        parts.append(element("p", "Prices that are not known: ", cut(", ".join(unknown), limits.line)))
    parts += bill.shares(story, limits)
    ongoing = (spent or {}).get("ongoing") or []
    if ongoing:
        lines, rest = first(ongoing, limits.items)
        parts += [
            element("h3", "What goes on to cost money"),
            element("ul", *(_ongoing(one, limits) for one in lines)),
            rest,
        ]
    dated = (spent or {}).get("prices_as_of") or estimate.get("prices_as_of")
    prices = f" Prices as of {dated}." if dated else ""
    lead = f"US dollars, before tax.{prices} “So far” is counted up to the last record of the run, or up to its end."
    return section("money", "Money", *parts, lead=lead)


def _ongoing(one: JsonObject, limits: Limits) -> Markup:
    price = one.get("usd_per_hour")
    hourly = "its price is not known" if price is None else f"${price:,.4g} per hour"
    until = f"until {words.moment(one['until'])} at the latest" if one.get("until") else "until it is deleted"
    return element("li", cut(one.get("what"), limits.line), f": {hourly}, {until}")


def settings(story: Story, limits: Limits) -> Markup | None:
    """Return the settings that differ from the defaults, and whether the execution's input has set them."""
    known = (story.plan or {}).get("record") or story.record or {}
    changed, own = known.get("changed"), known.get("settings") or {}
    if changed is None:
        return None
    lead = "The settings that differ from Tuneway's defaults."
    if not changed:
        return section("settings", "Settings", element("p", "All settings are the defaults."))
    # A run that serves an earlier model has that run's own settings, too.
    by = f"the execution's input or run {story.serves_again}" if story.serves_again else "the execution's input"
    listed, rest = first(sorted(changed.items()), limits.items)
    rows = [
        [
            code(name),
            *(_value(pair.get(kind), limits) for kind in ("default", "value")),
            by if name in own else "config.yaml",
        ]
        for name, pair in listed
    ]
    shown = table("Settings that differ", ["Setting", "Default", "This run", "Set by"], rows)
    return section("settings", "Settings", shown, rest, lead=lead)


def _value(of: Any, limits: Limits) -> Markup:
    return element("code", cut(words.value(of), limits.line), dir="auto")


def use(story: Story, limits: Limits) -> Markup | None:
    """Return how the model is called, served again and deleted: by the command line of Tuneway, else by that of AWS."""
    record, serving = story.record or {}, story.serving
    parts: list[Any] = []
    if (call := story.call) and serving:
        parts += [
            element("h3", "Call it"),
            program("Call it", "tuneway ask chat.txt"),
            element("p", "Any OpenAI client takes this base URL: ", code(call["base_url"])),
            element("p", "This program runs in the project's folder:"),
            program("A program that calls it", "\n".join(call["python"])),
        ]
    bedrock = record.get("bedrock") or {}
    if bedrock.get("call"):
        parts += [
            element("h3", "Call the model in Bedrock"),
            program("Call the model in Bedrock", "tuneway ask chat.txt --model bedrock"),
            _or_aws(cut_command(bedrock["call"], limits)),
        ]
    model_run = record.get("model_run")
    if model_run:
        promote = {} if record.get("promoted") else {"endpoint": {"promote": "always"}}
        again = shlex.quote(json.dumps({"serve": model_run, **promote}))
        machine = shlex.quote(story.state_machine)
        start = f"aws stepfunctions start-execution --region {story.region} \\\n  --state-machine-arn {machine} \\\n"
        nevertheless = " --not-promoted" if promote else ""
        parts += [
            element("h3", "Serve it again"),
            program("Serve it again", f"tuneway serve {shlex.quote(str(model_run))}{nevertheless}"),
            _or_aws(f"{start}  --input {again}"),
        ]
    if serving:
        name = shlex.quote(str(serving["endpoint"]))
        parts += [
            element("h3", "Delete the endpoint"),
            element(
                "p",
                code("tuneway down"),
                " ends everything of the stack that costs money by the hour, also a run at work. The command of the AWS "
                "CLI deletes this endpoint alone.",
            ),
            program("Delete the endpoint", "tuneway down"),
            _or_aws(f"aws sagemaker delete-endpoint --region {story.region} --endpoint-name {name}"),
        ]
    if model_run:
        delete = f"aws s3 rm --recursive s3://{story.bucket}/models/{model_run}/"
        if version := record.get("model_package"):
            name = shlex.quote(str(version))
            delete += f"\naws sagemaker delete-model-package --region {story.region} --model-package-name {name}"
        parts += [
            element("h3", "Delete the model"),
            element(
                "p",
                "An endpoint that serves it must be deleted first. The run can then not be served again, and its record "
                "and this page are deleted, too.",
            ),
            program("Delete the model", delete),
        ]
    lead = join(
        [code("tuneway"), " is in the folder of the project that deployed this stack: ", code("make cli"), _INSTALLS]
    )
    return section("use", "Use it, serve it again, delete it", *parts, lead=lead) if parts else None


def _or_aws(command: str) -> Markup:
    """Return the command of the AWS CLI that does the same."""
    return element("details", element("summary", "With the AWS CLI"), program("With the AWS CLI", command))


def cut_command(text: str, limits: Limits) -> str:
    """Return a command, or a line that says where it stands if it is too long for the page."""
    return text if len(text) <= limits.text else "The command is too long for this page; run.json has it."
