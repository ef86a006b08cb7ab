"""Bedrock's checks of the data files and hyperparameters of a customization job.

Refusals have the texts that AWS documents ("Troubleshooting model customization issues" in the Bedrock User Guide).
PARITY.md lists the texts that nobody could confirm.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_aws.services.bedrock.models import Rules

_CHARACTERS_PER_TOKEN = 6  # "Use 6 characters per token as an approximation": Prepare data for fine-tuning your models.
_TURNS = ("user", "assistant")


class InvalidDataError(Exception):
    """The data or a hyperparameter breaks a rule of the base model. The text is the job's failure message."""


def check_hyperparameters(rules: Rules, given: Mapping[str, str]) -> None:
    """Check names and ranges by "Custom model hyperparameters". Raises InvalidDataError."""
    for name, text in given.items():
        if name not in rules.hyperparameters:
            allowed = ", ".join(rules.hyperparameters)
            raise InvalidDataError(f"Invalid hyperparameter: {name}. Supported hyperparameters are: {allowed}")
        integer, least, greatest = rules.hyperparameters[name]
        form = r"\d+" if integer else r"\d*\.?\d+(?:[eE][-+]?\d+)?"
        if not re.fullmatch(form, text) or not least <= float(text) <= greatest:
            kind = "an integer" if integer else "a number"
            raise InvalidDataError(
                f"Invalid value for hyperparameter {name}: {text}. It must be {kind} between {least:g} and {greatest:g}"
            )


def count_records(rules: Rules, file: str, content: bytes) -> int:
    """Check every line of a data file and return the number of its records. Raises InvalidDataError."""
    malformed = InvalidDataError(f"Unable to parse Amazon S3 file: {file}. Data files must conform to JSONL format.")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise malformed from None
    lines = text.removesuffix("\n").split("\n")
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            raise malformed from None
        texts = _texts(rules, record)
        if texts is None:
            raise malformed
        tokens = math.ceil(sum(map(len, texts)) / _CHARACTERS_PER_TOKEN)
        if tokens > rules.tokens:
            raise InvalidDataError(
                f"Max sum of input and output token length {tokens} exceeds total limit of {rules.tokens}"
            )
        reserved = next((word for word in rules.reserved if any(word in part for part in texts)), None)
        if reserved is not None:
            where = f"in file {file} for record starting with {line[:40]}"
            raise InvalidDataError(f"Invalid record {where}: it contains the reserved text {reserved}")
    return len(lines)


def check_file(rules: Rules, what: str, records: int) -> None:
    """Check the bounds of one file, by AWS's validators in aws-samples/amazon-bedrock-samples. Raises InvalidDataError."""
    most = rules.most_in_validation
    if records < rules.least_in_file or (what == "validation" and most is not None and records > most):
        bounds = f"at least {rules.least_in_file}" + (f" and at most {most}" if what == "validation" and most else "")
        raise InvalidDataError(f"The number of {what} records is {records}. It must be {bounds}")


def check_total(rules: Rules, records: int) -> None:
    """Check the quota "Sum of training and validation records". Raises InvalidDataError."""
    least, greatest = rules.records
    if not least <= records <= greatest:
        raise InvalidDataError(
            f"The sum of training and validation records is {records}. It must be between {least} and {greatest}"
        )


def _texts(rules: Rules, record: Any) -> list[str] | None:
    """Return the texts of a well-formed record, else None."""
    if not isinstance(record, dict):
        return None
    if rules.record_format == "prompt_completion":
        whole = set(record) == {"prompt", "completion"} and all(isinstance(t, str) and t for t in record.values())
        return list(record.values()) if whole else None
    return _conversation_texts(record)


def _conversation_texts(record: dict[str, Any]) -> list[str] | None:
    """Return the texts of bedrock-conversation-2024: user and assistant in turn, the assistant last, text only; else None."""
    if record.get("schemaVersion") != "bedrock-conversation-2024" or not set(record) <= {
        "schemaVersion",
        "system",
        "messages",
    }:
        return None
    messages, system = record.get("messages"), record.get("system", [])
    if not isinstance(messages, list) or not messages or len(messages) % 2 or not isinstance(system, list):
        return None
    blocks = list(system)
    for turn, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(content, list) or not content or message.get("role") != _TURNS[turn % 2]:
            return None
        blocks += content
    if not all(
        isinstance(block, dict) and set(block) == {"text"} and isinstance(block["text"], str) for block in blocks
    ):
        return None
    texts = [block["text"] for block in blocks]
    return texts if all(text.strip() for text in texts) else None
