"""Finds the learned answers of a conversation in the text that a chat template renders.

A template has no marks for this, and it may write an earlier turn in another way than the last one: Qwen 3 writes an empty
thinking block before the last answer alone. So the text is rendered with stand-ins for the answers, and what was found is
compared with the prompts that an endpoint would get.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from training.errors import TrainingError
from training.messages import as_chat
from training.template import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedTokenizerBase

    from training.messages import Chat, Messages
    from training.template import ChatTemplate

_Shape = tuple[tuple[str, bool], ...]
"""The role of each message, and whether it is learned."""


class _Border(NamedTuple):
    """How the text before an earlier answer becomes the prompt of a request for that answer."""

    drop: str
    """White space at its end that belongs to the answer."""
    add: str
    """The end of the prompt that the template does not write in an earlier turn, such as an empty thinking block."""


class Turns:
    """Splits conversations at their learned answers."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, template: ChatTemplate, has_end: Callable[[str], bool]
    ) -> None:
        """Take the settled template. `has_end` returns whether a text has a token that ends an answer."""
        self._tokenizer, self._template, self._has_end = tokenizer, template, has_end
        self._known: dict[_Shape, list[_Border]] = {}

    def split(self, messages: Messages) -> list[str]:
        """Return the row's text in pieces: the prompt of the first learned answer, and then one piece per learned answer.

        Each of these begins with its answer, and goes on up to the next one. So each learned answer follows the prompt that
        ends as the prompt of a request does.

        Raises:
            TrainingError: several answers are learned, and the template does not tell the turns apart.
        """
        learned = [index for index, message in enumerate(messages) if message.get("learned")]
        *earlier, last = learned
        chat = as_chat(messages)
        answer = self._template.answer(chat[last]["content"])
        if not earlier:
            return [self._prompt(chat[:last]), answer]
        borders = self._borders(tuple((message["role"], bool(message.get("learned"))) for message in messages))
        for index in earlier:
            chat[index]["content"] = chat[index]["content"].strip()
        mark = "tuneway"
        while any(mark in turn["content"] for turn in chat):
            mark += "-"
        rest, pieces = self._prompt(_with_marks(chat[:last], earlier, mark)), []
        for index in earlier:
            piece, _, rest = rest.partition(_mark(mark, index))
            pieces.append(piece)
        answers = [plain(chat[index]["content"], self._template.controls) for index in earlier]
        joined = "".join(piece + text for piece, text in zip(pieces, answers, strict=True)) + rest
        if joined != self._prompt(chat[:last]):
            raise _not_apart("it changes the text of an earlier answer")
        prompts = [piece.removesuffix(border.drop) + border.add for piece, border in zip(pieces, borders, strict=True)]
        starts = ["", *(self._template.lead + text for text in answers)]
        return [*(start + end for start, end in zip(starts, [*prompts, rest], strict=True)), answer]

    def _borders(self, shape: _Shape) -> list[_Border]:
        """Return the border before each learned answer but the last one, of all conversations with this shape."""
        if shape not in self._known:
            self._known[shape] = self._look(shape)
        return self._known[shape]

    def _look(self, shape: _Shape) -> list[_Border]:
        *earlier, last = (index for index, (_, learned) in enumerate(shape) if learned)
        chat = [{"role": role, "content": _mark("tuneway", index)} for index, (role, _) in enumerate(shape)]
        whole, borders = self._prompt(chat[:last]), []
        for index in earlier:
            before, _, after = whole.partition(chat[index]["content"])
            end, _, rest = after.partition(chat[index + 1]["content"])
            if not rest or chat[index]["content"] in after:
                raise _not_apart("it leaves out or repeats an earlier turn")
            if not self._has_end(end):
                raise _not_apart("no token ends an earlier answer")
            prompt, lead = self._prompt(chat[:index]), self._template.lead
            if before == prompt + lead:
                borders.append(_Border(lead, ""))
            elif prompt.startswith(before):
                borders.append(_Border("", prompt.removeprefix(before)))
            else:
                raise _not_apart("it writes the turns before an answer in another way once the conversation goes on")
        return borders

    def _prompt(self, chat: Chat) -> str:
        return self._template.render(self._tokenizer, chat, ask=True)


def _mark(word: str, index: int) -> str:
    """Return the stand-in for a message. No stand-in is a part of another one."""
    return f"{word}{index}."


def _with_marks(chat: Chat, indexes: list[int], word: str) -> Chat:
    return [turn | {"content": _mark(word, index)} if index in indexes else turn for index, turn in enumerate(chat)]


def _not_apart(trouble: str) -> TrainingError:
    return TrainingError(
        f"training.base_model: its chat template does not tell the turns of a conversation apart ({trouble}), so only the last "
        "answer of a row can be learned: set dataset.learn to last, or choose another base model"
    )
