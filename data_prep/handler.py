"""The Lambda's entry point."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config

from data_prep.prepare import prepare
from data_prep.request import parse
from data_prep.sources import hub_token, source
from data_prep.writer import Folder
from pipeline.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger()
_log.setLevel(logging.INFO)


def handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Prepare the dataset that the event names.

    Returns:
        `{"refused": None, "manifest": URI, "counts": {...}, "rejected": {reason: rows}}`, or
        `{"refused": line}` for what the user can mend.

    Raises:
        SourceUnavailable: the Hub did not deliver; a later try may succeed.
        botocore.exceptions.ClientError: AWS's own failure, for the state machine to retry.
    """
    try:
        request = parse(event)
        token = hub_token(_client("secretsmanager"), request.hub_token_secret) if request.hub_token_secret else None
        s3 = _client("s3")
        answer = prepare(request, source(request.dataset, token, s3), Folder(s3, request.output))
    except Refused as refusal:
        answer = {"refused": str(refusal)}
    _log.info("%s", answer)
    return answer


@cache
def _client(service: str) -> Any:
    # botocore and not boto3, which adds s3transfer: 0.1 s of import for transfers that are not used here.
    config = Config(retries={"mode": "standard", "max_attempts": 5})
    return botocore.session.get_session().create_client(service, config=config)
