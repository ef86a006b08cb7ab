"""The checks of the Hub token, of the base model and of the dataset: that they exist, and that the token can read them.

They look with the user's own credentials. The roles of the stack may be allowed less, which Plan shows.
"""

from __future__ import annotations

from cli.checks.result import CheckContext, CheckResult, NotChecked, of_lines, ok
from pipeline import account
from pipeline.source import base_model, hub, listing


def hub_token(checked: CheckContext) -> tuple[CheckResult, str | None]:
    """Read the Hub token. Return the result, and the token if the base model or the dataset needs it.

    Raises:
        NotAllowed, Refused: the secret does not exist, or holds no token.
    """
    settings = checked.settings
    arns = [account.check_token(settings, section, checked.region.name) for section in ("training", "dataset")]
    arn = next((arn for arn in arns if arn), None)
    if arn is None:
        return ok("not needed: neither training.gated nor dataset.gated is set"), None
    token = hub.hub_token(checked.client("secretsmanager"), arn)
    return ok(f"in the secret {settings.access.hub_token_secret}"), token


def model(checked: CheckContext) -> CheckResult:
    """Examine the base model's files as Plan does. Raises Refused, SourceUnavailable."""
    training = checked.settings.training
    bucket = _bucket(checked, training.base_model) if training.is_uploaded else ""
    token = _token(checked) if training.gated else None
    found = base_model.look(checked.settings, bucket, token, checked.client("s3"))
    _, _, left_out = base_model.within_memory(checked.settings, found.files)
    at = f" at {found.revision}" if found.revision else ""
    return of_lines(
        [*found.files.warnings, *left_out],
        f"{training.base_model}{at} can be read, and has {found.files.parameters:,} parameters",
    )


def dataset(checked: CheckContext) -> CheckResult:
    """List the dataset as Plan does, and read a byte of a file on the Hub. Raises Refused, SourceUnavailable, Interrupted."""
    settings, wanted = checked.settings, checked.settings.dataset
    bucket = _bucket(checked, wanted.source) if wanted.source.startswith("uploads/") else ""
    token = _token(checked) if wanted.gated else None
    found = listing.look(settings, bucket, token, checked.client("s3"))
    files = [file for of in found.files.values() for file in of]
    if wanted.is_hubs and files:
        # The Hub lists the files of a gated dataset for everybody.
        repo = wanted.source.removeprefix("hub:")
        endpoint = settings.access.hub_endpoint
        hub.HubFile(endpoint, repo, found.revision or "", files[0].name, token).open_at(0, 1).body.close()
    count = "1 file" if len(files) == 1 else f"{len(files)} files"
    return of_lines(found.warnings, f"{wanted.source} can be read: {count} for {', '.join(found.files)}")


def _token(checked: CheckContext) -> str | None:
    if checked.token is None:
        raise NotChecked("the Hub token cannot be read")
    return checked.token


def _bucket(checked: CheckContext, path: str) -> str:
    if checked.stack is None:
        raise NotChecked(f"{path} is in the bucket of the stack, which is not there")
    return checked.stack.bucket
