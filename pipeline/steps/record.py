"""The Record step: writes the run's record again when its model serves, and when the run is through."""

from __future__ import annotations

from typing import Any

from pipeline import aws, record


@aws.handler
def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Write the record of a run whose model serves, or that is through.

    Args:
        event: `record` (`record.begin`'s), `training`, `assessment`, `deployed` and `customization` (what the train, assess,
            deploy and customize functions returned) and `manifest` (S3 URI).

    Returns:
        `spent`.
    """
    deployed, customization = event["deployed"], event["customization"]
    serving = {key: deployed[key] for key in ("endpoint", "config", "until")} if deployed["phase"] == "passed" else None
    bedrock = {key: customization[key] for key in ("job", "jobs", "custom_model")} if customization["job"] else None
    return {"spent": record.write(event, event["assessment"], serving=serving, bedrock=bedrock)["spent"]}
