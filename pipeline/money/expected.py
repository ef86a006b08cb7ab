"""The expected cost of a run: from the tokens of its dataset and the pace of an earlier run, else from stated assumptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pipeline import instances
from pipeline.contracts.money import Expected
from pipeline.money import bounds
from pipeline.money.prices import MINUTES_PER_HOUR, SECONDS_PER_HOUR, of_instances
from pipeline.times import duration

if TYPE_CHECKING:
    from pipeline.contracts.money import Pace, Prices
    from pipeline.settings import Settings

BYTES_PER_TOKEN = 4
"""Bytes of a text file per token, if nothing better is known: English text has about four letters per token."""

PACKED = 3
"""How many times larger the texts of a compressed or a columnar file are assumed to be."""

TOKENS_PER_ROW = 200
"""The assumed tokens of a row, with instruction and template. A row of SAMSum has about 170."""

PEAK_TFLOPS = {
    "T4": 65,
    "V100": 125,
    "A10G": 70,
    "L4": 121,
    "L40S": 362,
    "A100": 312,
    "H100": 989,
    "H200": 989,
    "B200": 2250,
    "B300": 2250,
}
"""The peak of 16-bit matrix products without sparsity, in 10^12 operations per second, by NVIDIA's data sheets. A10G: AWS's
page about G5 instances. With an earlier run on the same type, the peak is not used."""

UTILIZATION = 0.2
"""The part of the peak that a training is assumed to reach. Small models and short rows reach less than large ones."""

OPERATIONS_PER_TOKEN = 6
"""Operations per parameter and token: 2 forward and 4 backward (Kaplan et al. 2020). LoRA saves a part of them, and gradient
checkpointing adds as much again."""

OTHER_MINUTES = 20
"""The assumed minutes of a job beside training: start, download, export and evaluation."""

START_MINUTES = 10
"""The assumed minutes until an endpoint serves."""


class Tokens(NamedTuple):
    """The tokens of a run's dataset.

    Attributes:
        per_epoch: the tokens of the training split.
        rows: its rows. None if they are not known.
        source: where the number comes from, in words.
        trained: the tokens of all steps, if they are counted. None: they follow from the others.
    """

    per_epoch: int
    rows: int | None
    source: str
    trained: int | None = None


class EarlierPace(NamedTuple):
    """The pace of an earlier run that trained the same base model on an instance type that this run may have."""

    run: str
    pace: Pace


def tokens_of_bytes(plain: int, packed: int, files: int, max_rows: int | None = None) -> Tokens:
    """Return the assumed tokens of a training split.

    Args:
        plain: the bytes of the training split's text files.
        packed: the bytes of its compressed and columnar files.
        files: the number of files.
        max_rows: the most rows that are used. None: all.
    """
    megabytes = (plain + packed) / 1e6
    what = f"{files} file{'s' * (files != 1)} of train, {megabytes:.1f} MB"
    factor = f", and {PACKED} times as many in compressed or columnar files" if packed else ""
    tokens = (plain + PACKED * packed) // BYTES_PER_TOKEN
    line = f"assumed: {BYTES_PER_TOKEN} bytes per token of {what}{factor}"
    if max_rows is None or tokens <= max_rows * TOKENS_PER_ROW:
        return Tokens(tokens, None, line)
    return tokens_of_rows(max_rows)


def tokens_of_rows(rows: int) -> Tokens:
    """Return the assumed tokens of a training split with this number of rows."""
    return Tokens(rows * TOKENS_PER_ROW, rows, f"assumed: {TOKENS_PER_ROW} tokens per row of {rows:,} rows")


def expected(
    settings: Settings,
    prices: Prices,
    region: str,
    tokens: Tokens | None,
    earlier: EarlierPace | None,
    *,
    bedrock_model: str | None = None,
    parameters: int = 0,
    trains: bool = True,
) -> Expected:
    """Return the expected cost of a run.

    Args:
        settings: the run's settings.
        prices: the prices of instances.
        region: the stack's Region.
        tokens: the tokens of the dataset. None if they are not known.
        earlier: the pace of an earlier run of the same base model on one of the same instance types, or None.
        bedrock_model: the base model that Bedrock customizes, or None.
        parameters: the base model's parameters.
        trains: whether the run trains. If not, it serves the model of an earlier run.
    """
    training, lines = settings.training, []
    parts: dict[str, float | None] = {"training": 0.0, "bedrock": 0.0, "endpoint": 0.0}
    seconds, all_tokens = None, None
    if trains:
        parts["training"] = None
        all_tokens = None if tokens is None else _trained(settings, tokens)
        lines.append("the tokens are not known" if tokens is None else f"{all_tokens:,} tokens ({tokens.source})")
        kind = earlier.pace.instance_type if earlier else training.instance_types[0]
        speed, others, line = _pace(kind, training.instance_count, parameters, earlier)
        lines.append(line)
        if all_tokens is not None and speed:
            seconds = min(round(all_tokens / speed + others), training.max_runtime_minutes * 60)
            parts["training"] = of_instances(
                prices.training, [kind], training.instance_count, seconds / SECONDS_PER_HOUR
            )
    if bedrock_model is not None:
        parts["bedrock"] = bounds.customization(settings, bedrock_model, _bedrock_tokens(settings, tokens))
    elif settings.bedrock.mode == "import":
        parts["bedrock"] = bounds.imported(bounds.units_at_most(parameters), region)
    parts["judge"] = bounds.judge_cost(settings, BYTES_PER_TOKEN) if trains else 0.0
    if parts["judge"]:
        lines.append(f"{BYTES_PER_TOKEN} bytes per token of the judge's longest requests")
    if settings.endpoint.enabled:
        parts["endpoint"], line = _endpoint(settings, prices)
        lines.append(line)
    rounded = {name: part if part is None else round(part, 2) for name, part in parts.items()}
    known = [part for part in rounded.values() if part is not None]
    return Expected(
        **rounded,
        total=round(sum(known), 2) if len(known) == len(rounded) else None,
        training_seconds=seconds,
        tokens=all_tokens,
        assumption="; ".join(lines),
    )


def _trained(settings: Settings, tokens: Tokens) -> int:
    """Return the tokens on which the job trains: those of all epochs, or of `max_steps` steps."""
    if tokens.trained is not None:
        return tokens.trained
    training = settings.training
    rows = max(1, tokens.rows or tokens.per_epoch // TOKENS_PER_ROW)
    trained = training.epochs * rows
    if training.max_steps is not None:
        rows_per_step = training.batch_size * training.gradient_accumulation_steps
        trained = min(trained, training.max_steps * rows_per_step)
    return round(tokens.per_epoch * trained / rows)


def _pace(
    instance_type: str, count: int, parameters: int, earlier: EarlierPace | None
) -> tuple[float | None, float, str]:
    """Return the tokens per second, the seconds of everything beside training, and where they come from in words."""
    if earlier is not None:
        pace = earlier.pace
        speed = pace.tokens_per_second * count / pace.instance_count
        # The seconds of a spot job are more than those that it was billed.
        whole = pace.job_seconds or pace.billed_seconds or sum(pace.seconds.values())
        others = max(0.0, whole - pace.seconds.get("train", 0.0))
        line = f"{speed:,.0f} tokens/s and {duration(others)} beside training, as run {earlier.run} on {instance_type}"
        return speed, others, line
    gpu = instances.gpu(instance_type)
    peak = PEAK_TFLOPS.get(gpu.name) if gpu else None
    if peak is None or not parameters:
        return None, 0, f"no earlier run shows how fast {instance_type} trains this model"
    speed = peak * 1e12 * UTILIZATION / (OPERATIONS_PER_TOKEN * parameters) * count
    line = (
        f"{speed:,.0f} tokens/s assumed for {count} x {instance_type} ({UTILIZATION:.0%} of its peak on one GPU), and "
        f"{OTHER_MINUTES} minutes beside training"
    )
    return speed, OTHER_MINUTES * 60, line


def _bedrock_tokens(settings: Settings, tokens: Tokens | None) -> float | None:
    """Return the tokens of Bedrock's records, as far as they are known. Bedrock takes `max_records` rows of all at most."""
    if tokens is None:
        return None
    most = settings.bedrock.max_records
    return tokens.per_epoch * min(1.0, most / tokens.rows) if tokens.rows else float(tokens.per_epoch)


def _endpoint(settings: Settings, prices: Prices) -> tuple[float | None, str]:
    """Return the cost of an endpoint that nobody uses after the run."""
    endpoint = settings.endpoint
    ends = [minutes for minutes in (endpoint.idle_minutes, endpoint.time_to_live_minutes) if minutes is not None]
    if not ends:
        return None, "the endpoint has no end"
    minutes = min(START_MINUTES, endpoint.startup_timeout_minutes) + min(ends)
    hours = minutes / MINUTES_PER_HOUR
    usd = of_instances(prices.endpoint, endpoint.instance_types, endpoint.instance_count, hours)
    return usd, f"the endpoint lives for {minutes} minutes, if nobody uses it"
