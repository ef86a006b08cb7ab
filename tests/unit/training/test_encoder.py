"""Token ids and labels: those of one exchange are as they always were, and those of conversations are as trl's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from trl.chat_template_utils import get_training_chat_template, is_chat_template_stop_token_trained
from trl.chat_template_utils import llama3_chat_template as llama_3
from trl.chat_template_utils import qwen2_5_chat_template as qwen_2_5
from trl.chat_template_utils import qwen3_chat_template as qwen_3
from trl.data_utils import _tokenize  # what SFTTrainer makes its masks with

from tests.unit.training.conftest import make_chat, make_conversation, make_tokenizer
from tests.unit.training.families import CHAT, FAMILIES
from tests.unit.training.test_template import encoder_of
from training.data import IGNORED, Collator
from training.encoder import Encoder
from training.messages import as_chat

RECORDED = json.loads((Path(__file__).parent / "recorded" / "single_exchange.json").read_text())
"""Rows and batches of single exchanges, from the code that learned the last answer alone."""


@pytest.mark.parametrize("name", FAMILIES)
def test_the_rows_of_one_exchange_are_those_of_the_code_before_conversations(name: str) -> None:
    row = encoder_of(FAMILIES[name]).row(CHAT)
    ((start, end),) = row["spans"]
    labels = [IGNORED] * start + row["input_ids"][start:end]
    assert {"input_ids": row["input_ids"], "labels": labels} == RECORDED["families"][name]


@pytest.mark.parametrize("packed", [False, True])
def test_batches_with_one_learned_answer_per_row_are_those_of_the_code_before_conversations(packed: bool) -> None:
    tokenizer = make_tokenizer([make_chat(number) for number in range(100)])
    encoder = Encoder(tokenizer, [int(tokenizer.eos_token_id)])
    rows = [encoder.row(make_chat(number)) for number in range(7)]
    rows.append(encoder.row([*make_chat(1)[:2], {**make_chat(1)[2], "learned": False}, *make_chat(2)[1:]]))
    batch = {
        name: value.tolist() if hasattr(value, "tolist") else value for name, value in Collator(3, packed)(rows).items()
    }
    recorded = RECORDED["packed" if packed else "padded"]
    assert {name: batch[name] for name in recorded} == recorded
    # The borders of packed rows came later (test_data.py).
    borders = {"cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"}
    assert batch.keys() - recorded.keys() == (borders if packed else set())


SMOLLM_2 = """\
{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""
"""The chat_template.jinja of SmolLM2-135M-Instruct, which `make local` trains."""

MARKED_SMOLLM_2 = """\
{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
'}}{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' + '
'}}{% endgeneration %}{% else %}{{ message['content'] + '<|im_end|>' + '
'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""
"""The same with trl's marks, because trl has none for it and asks for them."""


@dataclass(frozen=True)
class Compared:
    """A template whose masks are compared with trl's.

    Attributes:
        template: as it is published.
        special: its special tokens. The first one ends a turn.
        added: its other added tokens.
        given: what trl learns before an answer and an endpoint writes into the prompt, so that the model never writes it.
        after: what trl learns after the end of a turn, which the model never writes either.
        marked: the template with trl's marks, if trl does not have it.
    """

    template: str
    special: tuple[str, ...]
    added: tuple[str, ...] = ()
    given: str = ""
    after: str = ""
    marked: str | None = None


IM = ("<|im_end|>", "<|im_start|>", "<|endoftext|>")
LLAMA = ("<|eot_id|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>")
COMPARED = {
    "SmolLM2 writes a system prompt of its own": Compared(SMOLLM_2, IM, after="\n", marked=MARKED_SMOLLM_2),
    "Llama 3 strips white space": Compared(llama_3, LLAMA),
    "Qwen 2.5 writes a system prompt of its own": Compared(qwen_2_5, IM, given="\n", after="\n"),
    "Qwen 3 drops earlier reasoning": Compared(
        qwen_3, IM, ("<think>", "</think>"), given="<think>\n\n</think>\n\n", after="\n"
    ),
}


def spans(mask: list[int]) -> list[tuple[int, int]]:
    """Return start and end of each run of ones."""
    borders = [index for index, (before, one) in enumerate(zip([0, *mask], [*mask, 0], strict=True)) if before != one]
    return list(zip(borders[::2], borders[1::2], strict=True))


@pytest.mark.parametrize("system", [True, False])
@pytest.mark.parametrize("name", COMPARED)
def test_masks_equal_those_of_trl(name: str, system: bool) -> None:
    family = COMPARED[name]
    tokenizer = make_tokenizer([make_chat(number) for number in range(20)])
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in family.special])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in family.added])
    tokenizer.eos_token, tokenizer.bos_token = family.special[0], family.special[1]
    tokenizer.chat_template = family.template
    marked = family.marked or get_training_chat_template(tokenizer)
    assert is_chat_template_stop_token_trained(tokenizer, marked)
    encoder = Encoder(tokenizer, [int(tokenizer.eos_token_id)])
    for number in range(6):
        messages = make_conversation(number, 1 + number)[0 if system else 1 :]
        if "strips" in name:
            for message in messages:
                message["content"] = f" \n{message['content']}\n\n"
        theirs: Any = _tokenize(tokenizer, as_chat(messages), chat_template=marked, return_assistant_tokens_mask=True)
        ids, row = theirs["input_ids"], encoder.row(messages)
        assert row["input_ids"] + tokenizer(family.after, add_special_tokens=False)["input_ids"] == ids
        found = spans(theirs["assistant_masks"])
        assert len(found) == len(row["spans"]) == 1 + number
        for (start, end), (their_start, their_end) in zip(row["spans"], found, strict=True):
            assert tokenizer.decode(ids[their_start:start]) == family.given
            assert tokenizer.decode(ids[end:their_end]) == family.after
            assert ids[end - 1] == tokenizer.eos_token_id
