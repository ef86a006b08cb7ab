"""Reads a channel's rows, makes batches of tokenized rows, and computes the loss at their answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from training.errors import TrainingError
from training.messages import BadRecord, read_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from training.encoder import TokenizedChat
    from training.messages import Messages

IGNORED = -100
"""Label of a token that is not learned. torch's cross_entropy skips it by default."""


def read_channel(folder: Path) -> list[Messages]:
    """Read all `*.jsonl` files of a channel. Only the last message of a row is learned.

    Raises:
        TrainingError: a line is wrong, or the channel is empty. The message names file and line, or the channel.
    """
    rows = [row for file in sorted(folder.glob("*.jsonl")) for row in _read_file(file)]
    if not rows:
        raise TrainingError(
            f"channel {folder.name} has no rows: {folder} holds no row in a .jsonl file; prepare the data anew"
        )
    return rows


def _read_file(file: Path) -> Iterator[Messages]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _read_row(line, f"{file.parent.name}/{file.name} line {number}")


def _read_row(line: str, where: str) -> Messages:
    try:
        row = read_row(line)
    except BadRecord as error:
        raise TrainingError(f"{where}: {error}; prepare the data anew") from None
    learned = sum(message.get("learned", False) for message in row)
    if learned > 1:
        raise TrainingError(
            f"{where} marks {learned} answers as learned, and this job learns the last message alone; set learned to false in "
            "the others"
        )
    return row


@dataclass(frozen=True)
class Collator:
    """Makes a batch for which logits are computed only at the labels (`logits_to_keep`).

    With a vocabulary of 128,000, logits are the most expensive part of a small model's step, and most tokens of a row are
    prompt. Rows are padded on the left to the longest row, so that all answers end together. If `packed`, rows stand one
    after another in one sequence.
    """

    pad_id: int
    """The padding token. It may be any token, even the end of a turn: the attention mask hides it, and it is never a label."""
    packed: bool = False

    def __call__(self, rows: Sequence[TokenizedChat]) -> dict[str, Any]:
        """Return the model's inputs and the labels, as `_padded` or `_packed` describe them."""
        # Only generation needs a cache. With a cache, transformers would not tell packed rows apart.
        return (self._packed(rows) if self.packed else self._padded(rows)) | {"use_cache": False}

    def _padded(self, rows: Sequence[TokenizedChat]) -> dict[str, Any]:
        """Return input_ids, attention_mask and position_ids [rows, longest], labels [rows, logits_to_keep]."""
        longest = max(row["length"] for row in rows)
        # One more than the tokens of the longest answer, because the token before an answer predicts its first token.
        kept = 1 + max(row["length"] - row["prompt_length"] for row in rows)
        input_ids = torch.full((len(rows), longest), self.pad_id)
        attention_mask = torch.zeros((len(rows), longest), dtype=torch.long)
        labels = torch.full((len(rows), kept), IGNORED)
        for index, row in enumerate(rows):
            ids = torch.tensor(row["input_ids"])
            answer = row["length"] - row["prompt_length"]
            input_ids[index, -row["length"] :] = ids
            attention_mask[index, -row["length"] :] = 1
            labels[index, -answer:] = ids[-answer:]
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "position_ids": (attention_mask.cumsum(-1) - 1).clamp(min=0),
            "labels": labels,
            "logits_to_keep": kept,
        }

    def _packed(self, rows: Sequence[TokenizedChat]) -> dict[str, Any]:
        """Return input_ids and position_ids [1, tokens], logits_to_keep (which tokens) and labels [1, kept].

        Positions begin anew with every row, and there is no attention mask. By this, transformers and flash attention keep
        the rows apart (https://huggingface.co/docs/transformers/main/en/padding_free). With a mask of ones they would mix the
        rows, without an error.
        """
        kept: list[int] = []
        labels: list[int] = []
        start = 0
        for row in rows:
            answer = row["input_ids"][row["prompt_length"] :]
            end = start + row["length"]
            # The answer and the token before it, which predicts its first token. No token predicts across rows.
            kept += range(end - len(answer) - 1, end)
            labels += [IGNORED, *answer]
            start = end
        return {
            "input_ids": torch.tensor([[token for row in rows for token in row["input_ids"]]]),
            "position_ids": torch.cat([torch.arange(row["length"]) for row in rows])[None],
            "labels": torch.tensor([labels]),
            "logits_to_keep": torch.tensor(kept),
        }


def completion_loss(
    outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
) -> torch.Tensor:
    """Return the cross entropy of the answers' tokens, in nats.

    Args:
        outputs: the model's outputs, with logits for the positions that `labels` covers.
        labels: the labels that `Collator` makes.
        num_items_in_batch: answer tokens of the whole optimizer step, over which the mean is taken. None: of this batch.
    """
    logits = outputs.logits[:, :-1].float().flatten(0, 1)
    targets = labels[:, 1:].flatten().to(logits.device)
    total = torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
    return total / ((targets != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)
