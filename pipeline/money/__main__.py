"""Prints the bound of a run with config.yaml, and what is expected, for each Region with a default of Bedrock's."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline import money
from pipeline.catalogue import DEFAULT_BY_REGION
from pipeline.contracts.values import as_json
from pipeline.settings import load

config = load(Path(__file__).resolve().parents[2] / "config.yaml")
for region, default in DEFAULT_BY_REGION.items():
    model = default if config.bedrock.mode == "customize" else None
    prices = money.known(region)
    expected = money.expected(config, prices, region, None, None, bedrock_model=model)
    print(region, json.dumps(as_json(money.estimate(config, prices, expected, model, region))))
