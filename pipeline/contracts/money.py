"""What a run costs: the most it can be, what is expected, and what was spent. All amounts are US dollars before tax.

An amount is None if a price is not known. It is never taken as 0.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Part = Literal["training", "bedrock", "endpoint", "judge"]
"""The parts of a run that cost money."""


class Prices(NamedTuple):
    """The prices that a run counts with, in dollars per hour of one instance, by instance type.

    A type whose price is not known is absent. `as_of` is the day of the oldest of the prices.
    """

    training: dict[str, float]
    endpoint: dict[str, float]
    as_of: str


class Expected(NamedTuple):
    """The expected cost of each part, which is no bound.

    Attributes:
        training: the cost of the training job.
        bedrock: the cost of Bedrock's job, and of a month of its model.
        endpoint: the cost of the endpoint.
        total: the sum. None if a part is not known.
        training_seconds: the time of the training job, with its evaluation. None if the run does not train, or if its tokens
            are not known.
        tokens: the tokens on which the job trains, in all epochs together.
        assumption: one line that says from which figures this is computed.
        judge: the cost of the judge model.
    """

    training: float | None
    bedrock: float | None
    endpoint: float | None
    total: float | None
    training_seconds: int | None
    tokens: int | None
    assumption: str
    judge: float | None = 0.0


class Estimate(NamedTuple):
    """The upper bound of the cost of each part, and what is expected.

    A part is None if its cost has no bound that is known. `unknown` names the missing prices.
    """

    training: float | None
    bedrock: float | None
    endpoint: float | None
    total: float | None
    currency: str
    prices_as_of: str
    unknown: list[str]
    expected: Expected
    judge: float | None = 0.0


class Pace(NamedTuple):
    """How fast a run's training job was. Plan computes from it what a later run will take.

    Attributes:
        instance_type: the type on which the job ran.
        instance_count: its instances.
        rows: the rows of the training split that the job used.
        tokens_per_epoch: the tokens of these rows.
        tokens_per_second: the tokens of all instances, while the model was trained.
        seconds: the seconds of each phase of the job.
        billed_seconds: the seconds that SageMaker bills for one instance. None if the run needed several jobs.
        job_seconds: the seconds of the job, which include the phases. With spot, SageMaker bills less. None if the run needed
            several jobs, if the job was interrupted, and in a record of an earlier version.
    """

    instance_type: str
    instance_count: int
    rows: int
    tokens_per_epoch: int
    tokens_per_second: float
    seconds: dict[str, float]
    billed_seconds: int | None
    job_seconds: int | None = None


class EndpointInstances(NamedTuple):
    """The instances of an endpoint: the types that it may have, and how many."""

    instance_types: list[str]
    instance_count: int


class SpentPart(NamedTuple):
    """What one part of a run has cost so far.

    `billed` is computed from the seconds that AWS says it bills, and `estimated` from times or bounds. `how` says it in one
    line.
    """

    part: Part
    usd: float | None
    basis: Literal["billed", "estimated"]
    how: str


class Ongoing(NamedTuple):
    """A thing that goes on to cost money, as far as the run knows.

    A run looks at its endpoint for the last time before Bedrock's job. So the endpoint of a run.json may have ended since,
    because nobody used it. The cleanup looks again after the run's end, for the message and the report.

    Attributes:
        what: the thing, in words.
        usd_per_hour: its price. None if it is not known.
        until: when it ends by itself at the latest (ISO 8601, UTC). None means that it has no such end.
    """

    what: str
    usd_per_hour: float | None
    until: str | None


class Spent(NamedTuple):
    """What a run has cost so far, and what goes on to cost money.

    `training_seconds_billed` is None while a training job runs, because SageMaker has not billed it yet.
    """

    parts: list[SpentPart]
    total: float | None
    ongoing: list[Ongoing]
    training_seconds_billed: int | None
    training_instance_types: list[str]
    prices_as_of: str
