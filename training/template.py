"""Decides how the base model's chat template is used, alike in training, evaluation and serving.

Published templates treat a system turn, thinking and texts with control tokens in different ways. `settle` looks at the text
that a template renders, decides once, and writes its decisions around the published text, which stays as it is. The exported
model has the result as its chat template. So vLLM and every other renderer make the same tokens of the same request (a system
turn with the instruction, a user turn with the dialogue).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from training.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from training.messages import Chat

THINKING = (
    ("<think>", "</think>"),  # Qwen, DeepSeek, SmolLM3, GLM, Granite, Nemotron, MiniMax
    ("<thought>", "</thought>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command R7B, A
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ("<|channel>thought", "<channel|>"),  # Gemma 4
)
"""The marks with which thinking begins and ends in published templates."""

_SWITCHES = {"enable_thinking": "false", "thinking": "false", "thinking_budget": "0"}
"""The variables that switch thinking off in published templates: the first in Qwen3, SmolLM3, GLM 4.5 and Gemma 4, the second
in Granite 3.2 and DeepSeek V3.1, the third in Seed-OSS."""

_SWITCH_WORDS = ("/think", "/no_think", "/nothink")
"""The words in a turn's text by which some templates switch thinking on or off: Nemotron Nano 2, SmolLM3, GLM 4.5."""

_DAY = datetime(2024, 7, 26)
"""The date for templates that write today's (Llama 3.1's does if it gets none). Any day is fit, if it is always the same."""

_INSTRUCTION, _DIALOGUE, _ANSWER = "tuneway-instruction", "tuneway-dialogue", "tuneway-answer"

# vLLM searches for loops over a message's `content`, or over a variable of that name, to find out whether a template takes
# texts or lists of parts (vllm/renderers/hf.py, _detect_content_format). There is no such loop here, so the published text
# decides.
_PLAIN_TEXTS = """\
{%- macro tuneway_plain(text) -%}
{%- set this = namespace(text=text) -%}
{%- for token in CONTROLS if token in text -%}
{%- set this.text = this.text | replace(token, token[:1] + ' ' + token[1:]) -%}
{%- endfor -%}
{{- this.text -}}
{%- endmacro -%}
{%- macro tuneway_plain_parts(parts, this) -%}
{%- for part in parts -%}
{%- set this.parts = this.parts + [dict(part, text=tuneway_plain(part['text'])) if part['text'] is string else part] -%}
{%- endfor -%}
{%- endmacro -%}
{%- set tuneway = namespace(messages=[], parts=[]) -%}
{%- for message in messages -%}
{%- if message['content'] is string -%}
{%- set tuneway.messages = tuneway.messages + [dict(message, content=tuneway_plain(message['content']))] -%}
{%- elif message['content'] -%}
{%- set tuneway.parts = [] -%}
{{- tuneway_plain_parts(message['content'], tuneway) -}}
{%- set tuneway.messages = tuneway.messages + [dict(message, content=tuneway.parts)] -%}
{%- else -%}
{%- set tuneway.messages = tuneway.messages + [message] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = tuneway.messages -%}
"""
_SYSTEM_TO_USER = """\
{%- if messages and messages[0]['role'] == 'system' -%}
{%- if messages | length == 1 or messages[1]['role'] != 'user' -%}
{%- set messages = [dict(messages[0], role='user')] + messages[1:] -%}
{%- elif messages[1]['content'] is string -%}
{%- set messages = [dict(messages[1], content=messages[0]['content'] + '\\n\\n' + messages[1]['content'])] + messages[2:] -%}
{%- else -%}
{%- set blank = [{'type': 'text', 'text': '\\n\\n'}] -%}
{%- set messages = [dict(messages[1], content=messages[0]['content'] + blank + messages[1]['content'])] + messages[2:] -%}
{%- endif -%}
{%- endif -%}
"""
_NO_THINK = """\
{%- if messages and messages[0]['role'] == 'system' and messages[0]['content'] is string -%}
{%- set messages = [dict(messages[0], content=messages[0]['content'] + ' /no_think')] + messages[1:] -%}
{%- else -%}
{%- set messages = [{'role': 'system', 'content': '/no_think'}] + messages -%}
{%- endif -%}
"""


@dataclass(frozen=True)
class ChatTemplate:
    """A published chat template with the decisions around it."""

    text: str
    """Jinja, for `tokenizer.chat_template`."""
    controls: tuple[str, ...]
    """Texts of the control tokens, the longest first. None of them stays whole in a turn's text."""
    lead: str
    """The white space that the template writes between the generation prompt and the answer."""
    tail: str
    """The text that the template writes after the answer: the end of the turn, if it has one."""

    def render(self, tokenizer: PreTrainedTokenizerBase, chat: Chat, *, ask: bool) -> str:
        """Return the chat as text, with the same date always. With `ask`, the text ends where an answer begins.

        Raises:
            TrainingError: the template takes chats as `settle` tries them, and not this one.
        """
        try:
            return _render(tokenizer, self.text, chat, ask=ask)
        except Exception as error:  # as in `settle`
            trouble = " ".join(str(error).split())[:80]
            turns = sum(turn["role"] == "user" for turn in chat)
            has_system = chat[0]["role"] == "system"
            raise TrainingError(
                f"training.base_model: its chat template takes no chat with {'a' if has_system else 'no'} system message and "
                f"{turns} turn{'s' * (turns != 1)} of the user ({trouble}): "
                f"{'' if has_system else 'give each row a system message, or '}choose another base model"
            ) from error

    def answer(self, text: str) -> str:
        """Return the text that follows the rendered prompt if the answer is `text`, without white space at its ends."""
        return self.lead + plain(text.strip(), self.controls) + self.tail


def settle(tokenizer: PreTrainedTokenizerBase) -> ChatTemplate:
    """Decide how the tokenizer's chat template is used.

    - If a template refuses or leaves out a system turn, the turn's text goes before the user's text, with a blank line
      between them.
    - The template's own variable switches thinking off. If text still stands between the generation prompt and an answer,
      such as an empty thinking block, it becomes a part of the generation prompt. A block that is open there is closed.
    - In the text of a turn, a blank is put into each text that would be a control token.

    Raises:
        TrainingError: the template renders no user turn with an answer.
    """
    published = str(tokenizer.chat_template)
    controls = control_tokens(tokenizer)
    switches = "".join(
        f"{{%- set {name} = {value} -%}}\n" for name, value in _SWITCHES.items() if re.search(rf"\b{name}\b", published)
    )
    before = switches + _PLAIN_TEXTS.replace("CONTROLS", repr(list(controls)))
    words = ("", _NO_THINK) if "/no_think" in published else ("",)
    settled: list[ChatTemplate] = []
    trouble = ""
    for adaption in (system + word for system in ("", _SYSTEM_TO_USER) for word in words):
        # The last tag prints nothing. Unlike a block, it keeps all white space of the published text.
        text = f"{before}{adaption}{{{{- '' }}}}{published}"
        try:
            prompt, start, tail = _around_the_answer(tokenizer, text)
        except Exception as error:  # a template may raise any error that its author has chosen
            trouble = " ".join(str(error).split())[:80]
            continue
        lead = start.removeprefix(prompt) if start.startswith(prompt) else ""
        missing = lead.rstrip(" ") if lead.strip() else ""
        lead = lead.removeprefix(missing)
        closing = next(
            (pair[1] for pair in THINKING if (prompt + missing).rfind(pair[0]) > (prompt + missing).rfind(pair[1])), ""
        )
        if closing:
            lead, missing = "", f"{missing}\n{closing}\n\n"
        if missing:
            # Jinja drops one line break at the end of a template, but none before a further tag.
            text = re.sub(r"(\r\n|\r|\n)\Z", "", text) + f"{{{{ {missing!r} if add_generation_prompt else '' }}}}"
        settled.append(ChatTemplate(text, controls, lead, tail))
        if not closing:
            return settled[-1]
    if settled:  # no word switches thinking off
        return settled[0]
    raise TrainingError(
        f"the base model's chat template takes no chat of an instruction, a dialogue and a summary ({trouble}): choose a base "
        "model whose template does"
    )


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Return the texts that the tokenizer takes for control tokens, the longest first.

    These are its special tokens, those of its other added tokens that its chat template writes (Qwen3's <think>), and the words
    by which the template switches thinking. An added token that is a word or white space does not count.
    """
    added = tokenizer.added_tokens_decoder.values()
    template = str(tokenizer.chat_template)
    found = {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)
    found |= {
        token.content
        for token in added
        if re.fullmatch(r"[^\w\s].*[^\w\s]", token.content) and token.content in template
    }
    found |= {word for word in _SWITCH_WORDS if word in template}
    # No blank can be put into a single character.
    return tuple(sorted((text for text in found if len(text) > 1), key=lambda text: (-len(text), text)))


def plain(text: str, controls: Sequence[str]) -> str:
    """Return the text with a blank in each control token, as the template's `tuneway_plain` does."""
    for token in controls:
        text = text.replace(token, f"{token[:1]} {token[1:]}")
    return text


def answer_text(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """Return the text of a model's answer, without control tokens and without thinking blocks.

    A block that was never closed is left out, too.
    """
    whole = str(tokenizer.decode(ids))
    if not any(mark in whole for pair in THINKING for mark in pair):
        return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
    for opening, closing in THINKING:
        if opening in whole:
            whole = re.sub(f"{re.escape(opening)}.*?({re.escape(closing)}|$)", "", whole, flags=re.DOTALL)
        whole = whole.rpartition(closing)[2]  # the prompt may have opened the block
    for token in control_tokens(tokenizer):
        whole = whole.replace(token, "")
    return whole.strip()


def _around_the_answer(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[str, str, str]:
    """Return three texts: after the dialogue in a prompt, and before and after the answer in a whole chat."""
    chat = [
        {"role": "system", "content": _INSTRUCTION},
        {"role": "user", "content": _DIALOGUE},
        {"role": "assistant", "content": _ANSWER},
    ]
    prompt, whole = _render(tokenizer, text, chat[:-1], ask=True), _render(tokenizer, text, chat, ask=False)
    for part, inside in ((_INSTRUCTION, prompt), (_DIALOGUE, prompt), (_DIALOGUE, whole), (_ANSWER, whole)):
        if part not in inside:
            raise ValueError(f"it leaves out the {part.partition('-')[2]}")
    start, _, tail = whole.rpartition(_DIALOGUE)[2].partition(_ANSWER)
    return prompt.rpartition(_DIALOGUE)[2], start, tail


def _render(tokenizer: PreTrainedTokenizerBase, text: str, chat: Chat, *, ask: bool) -> str:
    options: dict[str, Any] = {"strftime_now": _DAY.strftime}  # replaces transformers' own, which reads the clock
    rendered = tokenizer.apply_chat_template(
        chat, chat_template=text, tokenize=False, add_generation_prompt=ask, **options
    )
    return str(rendered)
