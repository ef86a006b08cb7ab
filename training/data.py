"""Reads a channel's rows, makes batches of tokenized rows, and computes the loss at their learned answers."""

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
    """Read all `*.jsonl` files of a channel.

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
        return read_row(line)
    except BadRecord as error:
        raise TrainingError(f"{where}: {error}; prepare the data anew") from None


@dataclass(frozen=True)
class Collator:
    """Makes a batch for which logits are computed only at the labels (`logits_to_keep`).

    With a vocabulary of 128,000, logits are the most expensive part of a small model's step, and most tokens of a row are
    context. Rows are padded on the left to the longest row, so that all last answers end together. If `packed`, rows stand one
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
        """Return input_ids, attention_mask and position_ids [rows, longest], labels [rows, kept], and logits_to_keep.

        Logits are computed at the columns in which any row has a label, and at the column before each such run.
        """
        longest = max(row["length"] for row in rows)
        input_ids = torch.full((len(rows), longest), self.pad_id)
        attention_mask = torch.zeros((len(rows), longest), dtype=torch.long)
        labels = torch.full((len(rows), longest), IGNORED)
        for index, row in enumerate(rows):
            input_ids[index, -row["length"] :] = torch.tensor(row["input_ids"])
            attention_mask[index, -row["length"] :] = 1
            for start, end in row["spans"]:
                answer = slice(longest - row["length"] + start, longest - row["length"] + end)
                labels[index, answer] = input_ids[index, answer]
        learned = (labels != IGNORED).any(dim=0)
        # The token before an answer predicts its first token. A prompt stands before each answer, so column 0 has no label.
        columns = (learned | learned.roll(-1)).nonzero().flatten()
        # One number takes the last logits as a view. That serves if only last answers are learned.
        at_the_end = len(columns) == longest - int(columns[0])
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "position_ids": (attention_mask.cumsum(-1) - 1).clamp(min=0),
            "labels": labels[:, columns],
            "logits_to_keep": len(columns) if at_the_end else columns,
        }

    def _packed(self, rows: Sequence[TokenizedChat]) -> dict[str, Any]:
        """Return input_ids and position_ids [1, tokens], logits_to_keep (which tokens) and labels [1, kept].

        Positions begin anew with every row, and there is no attention mask. By this, transformers and flash attention keep
        the rows apart (https://huggingface.co/docs/transformers/main/en/padding_free). With a mask of ones they would mix the
        rows, without an error.

        `cu_seq_lens_*` and `max_length_*` tell flash attention the borders of the rows, as transformers'
        DataCollatorWithFlattening does with return_flash_attn_kwargs. Without them every layer finds the borders again in the
        positions, and the GPU waits for the host each time (transformers 5.3.0, _prepare_from_posids).
        """
        kept: list[int] = []
        labels: list[int] = []
        offset = 0
        for row in rows:
            for start, end in row["spans"]:
                # The answer and the token before it, which predicts its first token. No token predicts across answers.
                kept += range(offset + start - 1, offset + end)
                labels += [IGNORED, *row["input_ids"][start:end]]
            offset += row["length"]
        lengths = [row["length"] for row in rows]
        borders = torch.tensor([0, *lengths]).cumsum(0, dtype=torch.int32)
        return {
            "cu_seq_lens_q": borders,
            "cu_seq_lens_k": borders,
            "max_length_q": max(lengths),
            "max_length_k": max(lengths),
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
