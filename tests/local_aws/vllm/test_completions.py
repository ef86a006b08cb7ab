"""Text completions of a tiny model: the prompt as it is, without a chat template."""

from __future__ import annotations

import pytest

from local import tiny_model
from local_aws.vllm.chat import Engine, RefusedError
from local_aws.vllm.completions import CompletionRequest, complete
from local_aws.vllm.options import Options

PROMPT = "Amanda: I baked"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    model = str(tiny_model.ensure(tmp_path_factory.mktemp("hub")))
    return Engine(Options(model, (model,), 64, 0, "auto"))


def test_a_text_is_completed_and_counted(engine: Engine) -> None:
    request = CompletionRequest(prompt=PROMPT, max_tokens=5, temperature=0)
    answer, again = complete(engine, request), complete(engine, request)
    [choice] = answer["choices"]
    assert choice["text"] and choice == again["choices"][0], "the same text at temperature 0"
    assert choice["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 5
    assert answer["usage"]["prompt_tokens"] == len(engine.tokenizer(PROMPT)["input_ids"])


def test_a_stop_text_ends_the_text_and_is_no_part_of_it(engine: Engine) -> None:
    whole = complete(engine, CompletionRequest(prompt=PROMPT, max_tokens=5, temperature=0))["choices"][0]["text"]
    stop = whole.strip()[-1]
    cut = complete(engine, CompletionRequest(prompt=PROMPT, max_tokens=5, temperature=0, stop=stop))["choices"][0]
    assert (cut["text"], cut["finish_reason"]) == (whole[: whole.index(stop)], "stop")


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "text"),
    [("", 5, "must not be empty"), (PROMPT, 64, "This model's maximum context length is 64 tokens")],
)
def test_what_is_refused(engine: Engine, prompt: str, max_tokens: int, text: str) -> None:
    with pytest.raises(RefusedError, match=text):
        complete(engine, CompletionRequest(prompt=prompt, max_tokens=max_tokens))
