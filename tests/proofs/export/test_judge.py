from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.proofs.export import environments
from tests.proofs.export.judge import TOLERANCE, Reading, differences, learned, loss
from tests.proofs.export.serving import arguments

if TYPE_CHECKING:
    from pathlib import Path

END = (2,)
ROWS = (
    {"prompt": [1, 5], "answer": [6, 2, 9], "logprobs": [-1.0, -2.0, -50.0], "text": "six"},
    {"prompt": [1, 7], "answer": [8, 2], "logprobs": [-0.5, -0.5], "text": "eight"},
)
REFERENCE = Reading("own", "1", ROWS, 100_000.0, "bfloat16", END)


def changed(**parts: object) -> Reading:
    return replace(REFERENCE, rows=(ROWS[0] | parts, ROWS[1]))


def test_the_loss_ends_with_the_token_that_ends_an_answer() -> None:
    assert loss(REFERENCE, END) == pytest.approx(1.0)  # of four tokens, without the one after the end


def test_the_same_reading_has_no_difference() -> None:
    assert differences(REFERENCE, REFERENCE) == []
    assert differences(replace(REFERENCE, rows=ROWS[:1]), REFERENCE) == []
    # vLLM does not give the values that it has read from config.json.
    assert differences(Reading("vLLM", "2", ROWS), REFERENCE) == []


@pytest.mark.parametrize(
    ("found", "seen"),
    [
        (replace(REFERENCE, error="does not load"), "does not load"),
        (replace(REFERENCE, rows=()), "read no dialogue"),
        (replace(REFERENCE, rope_theta=10_000.0), "reads rope_theta 10000.0 for 100000.0"),
        (replace(REFERENCE, dtype="None"), "reads dtype None for bfloat16"),
        (changed(prompt=[1, 4]), "other tokens in 1 of 2 prompts"),
        (changed(answer=[6, 2, 8]), "other tokens in 1 of 2 answers"),
        (changed(text="Six"), "other words in 1 of 2 texts"),
        (changed(logprobs=[-1.0, -2.0 - 8 * TOLERANCE, -50.0]), "loss +0.00020"),
        (changed(logprobs=[float("nan"), -2.0, -50.0]), "loss +nan"),
    ],
)
def test_a_difference_is_seen(found: Reading, seen: str) -> None:
    assert differences(found, REFERENCE) == [seen]


def test_a_model_that_learned_nothing_is_seen() -> None:
    assert learned(changed(logprobs=[-1.5, -2.5, -50.0]), REFERENCE) == []
    assert learned(REFERENCE, REFERENCE) == ["the base's loss is only 0.0000 above the tuned model's"]


def test_the_containers_variables_become_arguments(tmp_path: Path) -> None:
    environment = {
        "SM_VLLM_MAX_MODEL_LEN": "1024",
        "SM_VLLM_ENFORCE_EAGER": "true",
        "SM_VLLM_TRUST_REMOTE_CODE": "false",
    }
    expected = ["--port", "8080", "--model", str(tmp_path), "--enforce-eager", "--max-model-len", "1024"]
    assert arguments(environment | {"PATH": "/bin"}, tmp_path, 8080) == expected
    named = arguments({"SM_VLLM_MODEL": "org/name"}, tmp_path, 8080)
    assert named == ["--port", "8080", "--model", "org/name"]


def test_every_pin_is_exact_and_torch_is_the_one_that_is_here() -> None:
    for name in ("transformers-4", "transformers-newest", "vllm"):
        assert environments.pinned(name)["torch"] == "2.13.0"
    assert environments.pinned("transformers-4")["transformers"] == "4.51.3"
    assert not {"torchvision", "torchaudio", "torchcodec"} & environments.pinned("vllm").keys()
