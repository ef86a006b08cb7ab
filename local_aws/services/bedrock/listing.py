"""What all of Bedrock's list operations share: filters by name, status and time, the order, and pages."""

from __future__ import annotations

from datetime import datetime
from typing import Any


def page(
    rows: list[dict[str, Any]], params: dict[str, Any], key: str, name: str, created: str = "creationTime"
) -> dict[str, Any]:
    """The output of a list operation: the rows that the input asks for, under `key`, newest first unless it says otherwise.

    Args:
        rows: all summaries.
        params: the operation's input.
        key: the output's member that holds the summaries.
        name: the summary's member that nameContains looks at.
        created: the summary's member with the time of creation.
    """
    after = _time(params.get("creationTimeAfter", params.get("createdAfter")))
    before = _time(params.get("creationTimeBefore", params.get("createdBefore")))
    kept = [
        row
        for row in rows
        if params.get("nameContains", "") in row[name]
        and params.get("statusEquals", row.get("status")) == row.get("status")
        and (after is None or row[created] >= after)
        and (before is None or row[created] <= before)
    ]
    kept.sort(key=lambda row: row[created], reverse=params.get("sortOrder") != "Ascending")
    start, size = int(params.get("nextToken", "0") or 0), int(params.get("maxResults", 1000))
    token = str(start + size) if start + size < len(kept) else None
    return {key: kept[start : start + size], "nextToken": token}


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text.replace("Z", "+00:00"))
