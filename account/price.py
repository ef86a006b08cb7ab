"""What the life may cost: the bound of each execution that trains or serves, by the limits that AWS itself enforces."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline import bedrock, money
from pipeline.money.words import dollars
from pipeline.settings import with_run_input

if TYPE_CHECKING:
    from pipeline.contracts.money import Estimate
    from pipeline.settings import Settings

SAMPLES = Path(__file__).resolve().parent.parent / "data" / "dialogues"
"""The dataset of the life."""

PARAMETERS = 134_515_008
"""The parameters of SmolLM2-135M-Instruct (model card and the Hub's safetensors metadata)."""


PRICE_SECONDS = 10.0
"""How long the life waits for the Price List, which is asked for types and Regions that the table does not have."""


class Price(NamedTuple):
    """The bound of the life's cost. An amount is None if a price is not known.

    Attributes:
        main: the bound of the run that trains.
        serve: the bound of the run that serves its model again.
    """

    main: Estimate
    serve: Estimate

    @property
    def total(self) -> float | None:
        """The bound of both."""
        amounts = (self.main.total, self.serve.total)
        return None if None in amounts else sum(amount for amount in amounts if amount is not None)

    @property
    def expected(self) -> float | None:
        """The expected cost of the training job, and the bound of one endpoint until its end."""
        amounts = (self.main.expected.training, self.main.bedrock, self.main.endpoint)
        return None if None in amounts else sum(amount for amount in amounts if amount is not None)

    def lines(self) -> list[str]:
        """Return the price in lines for a person."""
        main, serve = self.main, self.serve
        most = "What it costs at most is not known" if self.total is None else f"At most {dollars(self.total)} dollars"
        found = [
            f"{most}, before tax: training {dollars(main.training)} (until the job's own time "
            f"limit), Bedrock {dollars(main.bedrock)}, the endpoint {dollars(main.endpoint)} and, when it serves again, "
            f"{dollars(serve.endpoint)} (until its own end)",
        ]
        if self.expected is not None:
            found.append(f"About {dollars(self.expected)} dollars are expected: {main.expected.assumption}")
        if main.prices_as_of:
            found.append(
                f"Prices of {main.prices_as_of}. Not counted: cents for storage, Lambda, logs and Step Functions"
            )
        unknown = list(dict.fromkeys([*main.unknown, *serve.unknown]))
        if unknown:
            found.append(f"Not known: the cost of {', '.join(unknown)}")
        return found


def life(settings: Settings, region: str, run_input: dict[str, Any]) -> Price:
    """Return the price of a life.

    Args:
        settings: the stack's settings.
        region: the stack's Region.
        run_input: the input of the main run.

    Raises:
        SettingsError: Bedrock cannot be used with these settings in the Region.
    """
    run = with_run_input(settings.model_dump(), run_input)
    base = bedrock.check(run, region)
    model = base.id if base else None
    # Plan asks the Price List, too, so that it refuses nothing that has a price here.
    prices, _ = money.look_up(region, [*run.training.instance_types, *run.endpoint.instance_types], PRICE_SECONDS)
    tokens = money.tokens_of_rows(_rows())
    expected = money.expected(run, prices, region, tokens, None, bedrock_model=model, parameters=PARAMETERS)
    again = money.expected(run, prices, region, None, None, trains=False)
    without = run.model_copy(update={"bedrock": run.bedrock.model_copy(update={"mode": "off"})})
    return Price(
        money.estimate(run, prices, expected, model, region, PARAMETERS),
        money.estimate(without, prices, again, None, region, trains=False),
    )


def main_input(settings: Settings, mode: str, region: str) -> dict[str, Any]:
    """Return the input of the main run. With Bedrock, its limit follows from the bound of that run."""
    if mode == "off":
        return {}
    chosen: dict[str, Any] = {"bedrock": {"mode": mode}}
    bound = life(settings, region, {**chosen, "max_cost": None}).main.total
    return {**chosen, "max_cost": None if bound is None else math.ceil(bound)}


def _rows() -> int:
    """Return the rows of the samples, which bound those of train."""
    count = 0
    for path in sorted(SAMPLES.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            count += sum(1 for _ in csv.reader(file)) - 1
    return count
