"""The chat templates of model families give the same prompts and answers in training, evaluation and serving."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jinja2
import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

from tests.unit.training.conftest import make_chat, make_tokenizer
from tests.unit.training.families import CHAT, DIALOGUE, FAMILIES, INSTRUCTION, REQUEST, SUMMARY, Family
from training import export
from training.encoder import Encoder, load_tokenizer
from training.errors import TrainingError
from training.messages import as_chat
from training.template import answer_text, control_tokens, plain

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from training.messages import Messages

each_family = pytest.mark.parametrize("family", [pytest.param(family, id=name) for name, family in FAMILIES.items()])


def tokenizer_of(family: Family) -> PreTrainedTokenizerBase:
    tokenizer = make_tokenizer([make_chat(number) for number in range(20)])
    first = next(
        (token for token in family.special if token in {"<s>", "<bos>", "<|begin_of_text|>", "<BOS_TOKEN>"}), None
    )
    first = first or next((token for token in family.special if "begin" in token), None)
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in family.special])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in family.added])
    tokenizer.eos_token, tokenizer.bos_token = family.special[0], first or family.special[0]
    tokenizer.chat_template = family.template
    return tokenizer


def encoder_of(family: Family) -> Encoder:
    tokenizer = tokenizer_of(family)
    return Encoder(tokenizer, [int(tokenizer.eos_token_id)])


def clock(day: datetime.datetime) -> Any:
    return type("Clock", (), {"now": staticmethod(lambda tz=None: day)})


@each_family
def test_the_prompt_has_the_instruction_and_the_answer_has_no_thinking(family: Family) -> None:
    encoder = encoder_of(family)
    row = encoder.row(CHAT)
    assert encoder.tokenizer.decode(row["input_ids"][: row["spans"][-1][0]]) == family.prompt
    assert encoder.tokenizer.decode(row["input_ids"][row["spans"][-1][0] :]) == family.answer
    assert encoder.prompt(CHAT) == row["input_ids"][: row["spans"][-1][0]]
    assert answer_text(encoder.tokenizer, row["input_ids"][row["spans"][-1][0] :]) == SUMMARY


@each_family
def test_the_exported_folder_makes_the_same_prompt_from_the_documented_request(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoder_of(family)
    encoder.tokenizer.chat_template = encoder.template.text
    encoder.tokenizer.save_pretrained(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    saved = export.as_4x_tokenizer_config(json.loads(config.read_text()), encoder.tokenizer)
    monkeypatch.setattr(chat_template_utils, "datetime", clock(datetime.datetime(2024, 7, 26)))
    forged: Messages = [
        CHAT[0],
        {"role": "user", "content": DIALOGUE + "".join((*family.special, *family.added)) + "bye"},
    ]
    for with_file in (True, False):  # transformers 5 reads the file, and 4.51 reads only tokenizer_config.json
        if not with_file:
            (tmp_path / "chat_template.jinja").unlink()
            config.write_text(json.dumps(saved))
        served = AutoTokenizer.from_pretrained(tmp_path)
        for request in (CHAT[:-1], forged):
            # The switches have no effect.
            for switch in ({}, {"enable_thinking": True, "thinking": True, "thinking_budget": -1}):
                text = served.apply_chat_template(
                    as_chat(request), tokenize=False, add_generation_prompt=True, **switch
                )
                assert served(text, add_special_tokens=False)["input_ids"] == encoder.prompt([*request, CHAT[-1]])


@each_family
def test_another_day_gives_the_same_rows(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for day in (1, 2):
        monkeypatch.setattr(chat_template_utils, "datetime", clock(datetime.datetime(2031, 12, day, 23, 59, day)))
        found.append(encoder_of(family).row(CHAT))
    assert found[0] == found[1]


def test_a_changed_template_gives_other_rows() -> None:
    family = FAMILIES["Llama 3.2"]
    other = replace(family, template=family.template.replace("Today Date: ", "Today is "))
    assert encoder_of(family).row(CHAT) != encoder_of(other).row(CHAT)


@each_family
def test_control_tokens_in_a_text_stay_text(family: Family) -> None:
    encoder = encoder_of(family)
    known = encoder.tokenizer.get_vocab()
    controls = {known[text] for text in control_tokens(encoder.tokenizer) if text in known}

    def count(ids: list[int]) -> int:
        return sum(token in controls for token in ids)

    forged = "".join(control_tokens(encoder.tokenizer))
    chat: Messages = [
        {"role": "system", "content": INSTRUCTION + forged},
        {"role": "user", "content": DIALOGUE.rstrip() + forged + "\n" + forged + "x"},
        {"role": "assistant", "content": f"{SUMMARY} {forged}", "learned": True},
    ]
    clean, row = encoder.row(CHAT), encoder.row(chat)
    assert count(row["input_ids"]) == count(clean["input_ids"])
    assert count(encoder.prompt(chat)) == count(encoder.prompt(CHAT))
    assert row["input_ids"][-1] == clean["input_ids"][-1]
    assert encoder.tokenizer.decode(row["input_ids"]).count(plain(forged, encoder.template.controls)) == 4


@each_family
def test_vllm_sees_the_same_content_format(family: Family) -> None:
    """vLLM sends lists of parts to a template with a loop over a message's content, or over a variable of that name."""

    def loops(text: str) -> int:
        tree = chat_template_utils._compile_jinja_template(text).environment.parse(text)
        found = [loop.iter for loop in tree.find_all(jinja2.nodes.For)]
        names = [
            getattr(node, "name", None)
            or getattr(node, "attr", None)
            or getattr(getattr(node, "arg", None), "value", None)
            for node in found
        ]
        return names.count("content")

    assert loops(encoder_of(family).template.text) == loops(family.template)


@pytest.mark.parametrize("name", ["Gemma 3", "Mistral Small 3.1"])
def test_contents_may_be_lists_of_parts_if_the_template_takes_them(name: str) -> None:
    encoder = encoder_of(FAMILIES[name])
    parts: list[Any] = [turn | {"content": [{"type": "text", "text": turn["content"] + "</s>"}]} for turn in REQUEST]
    texts: list[Any] = [turn | {"content": turn["content"] + "</s>"} for turn in REQUEST]
    assert encoder.template.render(encoder.tokenizer, parts, ask=True) == encoder.template.render(
        encoder.tokenizer, texts, ask=True
    )


def test_lists_of_parts_are_joined_for_a_template_without_system_turns() -> None:
    family = FAMILIES["Gemma 2"]
    text = family.template.replace("m['content'] | trim", "(m['content'] | map(attribute='text') | join)")
    encoder = encoder_of(family)
    changed = encoder.template.text.replace(family.template, text)
    parts = [turn | {"content": [{"type": "text", "text": turn["content"].strip()}]} for turn in REQUEST]
    rendered = encoder.tokenizer.apply_chat_template(
        parts, chat_template=changed, tokenize=False, add_generation_prompt=True
    )
    assert rendered == family.prompt


def test_a_conversation_of_several_turns_is_rendered_with_all_of_them() -> None:
    chat = [*as_chat(CHAT), {"role": "user", "content": "In one word?"}]
    for name, expected in {
        "Gemma 2": FAMILIES["Gemma 2"].prompt
        + "Ann greets Bob.<end_of_turn>\n<start_of_turn>user\nIn one word?<end_of_turn>\n<start_of_turn>model\n",
        "Qwen 2.5": FAMILIES["Qwen 2.5"].prompt
        + "Ann greets Bob.<|im_end|>\n<|im_start|>user\nIn one word?<|im_end|>\n<|im_start|>assistant\n",
    }.items():
        encoder = encoder_of(FAMILIES[name])
        assert encoder.template.render(encoder.tokenizer, chat, ask=True) == expected


def test_a_tuned_model_can_be_the_base_of_another_run() -> None:
    for family in FAMILIES.values():
        encoder = encoder_of(family)
        encoder.tokenizer.chat_template = encoder.template.text
        again = Encoder(encoder.tokenizer, encoder.end_ids)
        assert again.row(CHAT) == encoder.row(CHAT)


def test_white_space_around_an_answer_is_not_learned() -> None:
    encoder = encoder_of(FAMILIES["Qwen 2.5"])
    assert encoder.row([*CHAT[:-1], CHAT[-1] | {"content": f" \n{SUMMARY}\n\n"}]) == encoder.row(CHAT)


def test_a_prompt_that_depends_on_the_answer_is_the_one_without_an_answer() -> None:
    family = FAMILIES["Qwen 2.5"]
    tokenizer = tokenizer_of(family)
    tokenizer.chat_template = "{{ messages | length }}" + family.template
    row = Encoder(tokenizer, [int(tokenizer.eos_token_id)]).row(CHAT)
    assert tokenizer.decode(row["input_ids"]) == "2" + family.prompt + family.answer


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('no chats\nhere') }}", "no chats here"),
        (
            "{% for m in messages %}{% if m.role != 'user' %}{{ m.content }}{% endif %}{% endfor %}",
            "leaves out the instruction",
        ),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "leaves out the answer"),
        ("{% for m in messages %}{% for part in m.content %}{{ part['text'] }}{% endfor %}{% endfor %}", "leaves out"),
        ("{% if %}", "Expected an expression"),
    ],
)
def test_a_template_that_cannot_render_a_row_is_refused_in_one_line(template: str, message: str) -> None:
    tokenizer = tokenizer_of(FAMILIES["Qwen 2.5"])
    tokenizer.chat_template = template
    with pytest.raises(TrainingError, match=f"chat template takes no chat of .*{message}.*choose a base") as raised:
        Encoder(tokenizer, [0])
    assert "\n" not in str(raised.value)


def test_the_default_one_of_several_templates_is_used(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(FAMILIES["Command R7B"])
    tokenizer.chat_template = {"default": FAMILIES["Qwen 2.5"].template, "tool_use": "{{ raise_exception('tools') }}"}
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path, "org/base").chat_template == FAMILIES["Qwen 2.5"].template
    tokenizer.chat_template = {"tool_use": "{{ raise_exception('tools') }}"}
    tokenizer.save_pretrained(tmp_path / "tools")
    with pytest.raises(TrainingError, match="org/base has no chat template"):
        load_tokenizer(tmp_path / "tools", "org/base")


def test_control_tokens_are_special_tokens_and_those_that_the_template_writes() -> None:
    assert {"<|im_end|>", "<|endoftext|>", "<think>", "</think>"} <= set(
        control_tokens(tokenizer_of(FAMILIES["Qwen 3"]))
    )
    found = control_tokens(tokenizer_of(FAMILIES["Gemma 2"]))
    assert "<bos>" in found and not {"\n\n", "<table>"} & set(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>\nHm, Ann.\n</think>\n\nAnn greets Bob.<|im_end|>", "Ann greets Bob."),
        ("Hm, Ann.\n</think>\n\nAnn greets Bob.<|im_end|>", "Ann greets Bob."),
        ("<think>a</think>Ann <think>b</think>greets Bob.", "Ann greets Bob."),
        ("<think>\nHm, Ann says hi, and then", ""),
        ("<|im_start|>Ann greets Bob.<|im_end|><|im_end|>", "Ann greets Bob."),
        ("Ann greets Bob.", "Ann greets Bob."),
    ],
)
@pytest.mark.parametrize("special", [False, True])
def test_thinking_is_not_a_part_of_an_answer(text: str, expected: str, special: bool) -> None:
    tokenizer = tokenizer_of(FAMILIES["Qwen 3"])
    if special:
        tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in ("<think>", "</think>")])
    assert answer_text(tokenizer, tokenizer(text, add_special_tokens=False)["input_ids"]) == expected
