"""The options of the vLLM image: where the model comes from, which variables are read and which are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local_aws.vllm.options import OptionError, context_length, read

if TYPE_CHECKING:
    from pathlib import Path


def test_the_model_is_that_of_the_first_of_three_places(tmp_path: Path) -> None:
    both = {"SM_VLLM_MODEL": "org/named", "HF_MODEL_ID": "org/hub"}
    (tmp_path / "model").mkdir()
    with pytest.raises(OptionError, match="no model"):
        read({}, tmp_path)
    assert read({"HF_MODEL_ID": "org/hub"}, tmp_path).model == "org/hub"
    (tmp_path / "model" / "config.json").write_text("{}")
    assert read({"HF_MODEL_ID": "org/hub"}, tmp_path).model == str(tmp_path / "model")
    assert read(both, tmp_path).model == "org/named"


def test_variables_become_options(tmp_path: Path) -> None:
    environment = {
        "SM_VLLM_MODEL": "m",
        "SM_VLLM_MAX_MODEL_LEN": "2048",
        "SM_VLLM_SERVED_MODEL_NAME": "a b",
        "SM_VLLM_ENFORCE_EAGER": "",
        "VLLM_CPU_KVCACHE_SPACE": "2",
    }
    options = read(environment, tmp_path)
    assert (options.max_model_len, options.served_model_names) == (2048, ("a", "b"))
    assert read({"SM_VLLM_MODEL": "m"}, tmp_path).served_model_names == ("m",)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SM_VLLM_MAX_MODEL_LENGHT", "10", "unrecognized arguments: --max-model-lenght"),
        ("SM_VLLM_MAX_MODEL_LEN", "many", "argument --max-model-len: invalid int value: 'many'"),
        ("SM_VLLM_MAX_MODEL_LEN", "0", "must be greater than 0"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, name: str, value: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        read({"SM_VLLM_MODEL": "m", name: value}, tmp_path)


def test_the_context_is_at_most_that_of_the_model() -> None:
    assert context_length(None, 8192) == 8192
    assert context_length(2048, 8192) == 2048
    with pytest.raises(OptionError, match=r"max_model_len \(9000\) is greater than the derived max_model_len"):
        context_length(9000, 8192)
