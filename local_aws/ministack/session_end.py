"""The control path that ends the time of a session's credentials."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ministack.services import sts

from local_aws.core.registry import Request, Response, register_control

if TYPE_CHECKING:
    from pathlib import Path


def control(request: Request) -> Response:
    """Answer /_tuneway/sessions: POST {"expire": ACCESS_KEY_ID} ends the time of a session's credentials now."""
    try:
        sts._sessions[json.loads(request.body)["expire"]]["Expiration"] = 0.0
    except (ValueError, KeyError, TypeError) as error:
        return Response(400, {"Content-Type": "text/plain"}, f"no session to expire: {error!r}\n".encode())
    return Response(200)


def register(_state_dir: Path, _endpoint_url: str) -> None:
    """Answer the control path /_tuneway/sessions."""
    register_control("sessions", control)
