"""The filters (by name, status and time), the order and the pages that all list operations share."""

from __future__ import annotations

from typing import Any

from botocore.utils import parse_timestamp

from local_aws.core.shapes import ServiceError


def page(
    rows: list[dict[str, Any]],
    params: dict[str, Any],
    key: str,
    *,
    name: str = "",
    status: str = "",
    created: str = "",
    size: int,
) -> dict[str, Any]:
    """Return the output of a list operation: the rows that the input asks for, by default the newest first.

    Args:
        rows: all summaries.
        params: the operation's input, in SageMaker's or in Bedrock's spelling (NameContains, nameContains).
        key: the output's member that holds the summaries, in the same spelling.
        name: the summary's member that NameContains compares.
        status: the summary's member that StatusEquals compares.
        created: the summary's member with the time of creation. Without one the order stays.
        size: rows per page if the input gives no number.

    Raises:
        ServiceError: NextToken is not a token.
    """
    asked = {f"{member[0].lower()}{member[1:]}": value for member, value in params.items()}
    limits = [
        (member, sign, parse_timestamp(asked[prefix + end]))
        for member, prefix in (
            (created, "creationTime"),
            (created, "created"),
            ("LastModifiedTime", "lastModifiedTime"),
        )
        for end, sign in (("After", 1), ("Before", -1))
        if prefix + end in asked
    ]
    found = [
        row
        for row in rows
        if asked.get("nameContains", "").lower() in row.get(name, "").lower()
        and asked.get("statusEquals", row.get(status)) == row.get(status)
        and all((row[member] - limit).total_seconds() * sign > 0 for member, sign, limit in limits)
    ]
    by = {"Name": name, "Status": status}.get(asked.get("sortBy", "")) or created
    if by:
        found.sort(key=lambda row: row[by], reverse=asked.get("sortOrder", "Descending") == "Descending")
    token = str(asked.get("nextToken") or "0")
    if not token.isdigit():
        raise ServiceError("ValidationException", "Invalid NextToken")
    end = int(token) + int(asked.get("maxResults", size))
    following = "NextToken" if key[0].isupper() else "nextToken"
    return {key: found[int(token) : end], following: str(end) if end < len(found) else None}
