"""Prints the bound of a run with config.yaml, and what is expected, for each Region with a default of Bedrock's.

`python -m pipeline.money [ROWS]`: the expected cost is that of a dataset with so many rows of train, by default as many as
SAMSum has. The base model counts with the parameters of Llama 3.2 1B. `tuneway plan` knows those of another one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pipeline import money
from pipeline.catalogue import DEFAULT_BY_REGION
from pipeline.contracts.values import as_json
from pipeline.settings import load

SAMSUM_ROWS = 14_732
LLAMA_1B_PARAMETERS = 1_235_814_400

config = load(Path(__file__).resolve().parents[2] / "config.yaml")
rows = int(sys.argv[1]) if len(sys.argv) > 1 else SAMSUM_ROWS
for region, default in DEFAULT_BY_REGION.items():
    model = default if config.bedrock.mode == "customize" else None
    prices = money.known(region)
    expected = money.expected(
        config,
        prices,
        region,
        money.tokens_of_rows(rows),
        None,
        bedrock_model=model,
        parameters=LLAMA_1B_PARAMETERS,
    )
    print(
        region,
        json.dumps(as_json(money.estimate(config, prices, expected, model, region, LLAMA_1B_PARAMETERS)), indent=2),
    )
