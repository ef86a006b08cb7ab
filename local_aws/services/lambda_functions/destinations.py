"""On-failure destinations: the record of a failed asynchronous call goes to a queue, under the function's own role.

Source: "Capturing records of Lambda asynchronous invocations" in the Developer Guide. A record that the role may not send is
lost; Lambda counts it in its metric DestinationDeliveryFailures.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from botocore.exceptions import ClientError

from local_aws.core import clients
from local_aws.ministack.iam import authorize
from local_aws.ministack.sessions import AccessDeniedError, role_session

logger = logging.getLogger("local_aws.lambda")


class Destinations:
    """Sends the records."""

    def __init__(self, endpoint_url: str) -> None:
        """Send to the queues of local AWS at `endpoint_url`."""
        self._endpoint_url = endpoint_url

    def may_deliver(self, config: dict[str, Any], queue: str) -> bool:
        """Return whether the role of a function may send to a queue."""
        try:
            authorize(role_session(config["Role"], config["FunctionName"], "lambda"), "sqs:SendMessage", queue)
        except AccessDeniedError as error:
            logger.info("%s may not be the destination of %s: %s", queue, config["FunctionName"], error)
            return False
        return True

    def deliver(self, config: dict[str, Any], queue: str, record: dict[str, Any]) -> None:
        """Send the record of a failed call to a queue."""
        _, _, _, region, account, name = queue.split(":")
        try:
            credentials = role_session(config["Role"], config["FunctionName"], "lambda")
            sqs = clients.client("sqs", credentials, endpoint_url=self._endpoint_url, region=region)
            sqs.send_message(QueueUrl=f"{self._endpoint_url}/{account}/{name}", MessageBody=json.dumps(record))
        except (ClientError, AccessDeniedError) as error:
            logger.warning("the record of a failed call of %s is lost: %s", config["FunctionName"], error)
