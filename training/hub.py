"""Gets the base model from the job's own channel, or from the Hugging Face Hub or its cache.

huggingface_hub itself reads its variables HF_HOME, HF_HUB_OFFLINE and HF_ENDPOINT.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import httpx
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from training.errors import TrainingError

if TYPE_CHECKING:
    from training.recipe import Recipe

WANTED = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
"""Weights, configuration and tokenizer. The weights are safetensors alone, because a pickle can run code."""

UNWANTED = ["*/*", "consolidated*"]
"""The copies in other formats that many repositories have: Llama's original/ and Mistral's consolidated.safetensors double the
download."""


class SecretsClient(Protocol):
    """The one call of boto3's Secrets Manager client that this module makes."""

    def get_secret_value(self, *, SecretId: str) -> dict[str, str]:
        """Return the secret with its SecretString."""
        ...


def fetch_token(secret: str, client: SecretsClient | None = None) -> str:
    """Read the Hub token from Secrets Manager. It is never logged and never put into the environment.

    Args:
        secret: ARN of the secret, whose text is the token alone.
        client: replaces boto3's client.

    Raises:
        TrainingError: the secret does not exist, may not be read, or is not a token.
    """
    import boto3  # slow to import, and only a gated model needs it
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        region = secret.split(":")[3] if secret.startswith("arn:") else None
        client = client or cast("SecretsClient", boto3.client("secretsmanager", region_name=region))
        token = client.get_secret_value(SecretId=secret).get("SecretString", "").strip()
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        raise TrainingError(
            f"could not read the Hub token secret {secret}: {code}; "
            "check that the secret exists and that the training role may secretsmanager:GetSecretValue on it, then redrive the "
            "execution"
        ) from error
    except BotoCoreError as error:
        raise TrainingError(
            f"could not read the Hub token secret {secret}: {error}; check the job's network access (network.subnets), "
            "then redrive the execution"
        ) from error
    if not token:
        raise TrainingError(
            f"the Hub token secret {secret} is empty: put the token in as its plain text, then redrive the execution"
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        raise TrainingError(
            f"the Hub token secret {secret} holds more than a token: put the token in as its plain text, then redrive the "
            "execution"
        )
    return token


def base_model(recipe: Recipe, channel: Path) -> Path:
    """Return the folder of the base model's files: the `model` channel if the job has one, else the Hub's files.

    `base_files.look` examines them.

    Raises:
        TrainingError: the files cannot be downloaded. The message has the reason and the remedy.
    """
    return channel if channel.is_dir() else fetch_base_model(recipe)


def fetch_base_model(recipe: Recipe) -> Path:
    """Return the folder of the base model's files. Download the files that the cache lacks.

    Raises:
        TrainingError: the model does not exist, is gated, or cannot be reached. The message has the reason and the remedy.
    """
    token = fetch_token(recipe.hub_token_secret) if recipe.hub_token_secret else None
    try:
        folder = snapshot_download(
            recipe.base_model,
            revision=recipe.base_revision,
            token=token or False,
            allow_patterns=WANTED,
            ignore_patterns=UNWANTED,
            # Even for a commit it would list the files on the Hub (huggingface_hub 1.33, snapshot_download).
            local_files_only=constants.is_offline_mode(),
        )
    except HFValidationError:
        raise TrainingError(f"training.base_model {recipe.base_model!r} is not a Hub name: write OWNER/NAME") from None
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise TrainingError(_explain_refusal(recipe, error, with_token=token is not None)) from error
    except httpx.HTTPError as error:  # a connection cut in the middle of a download
        raise TrainingError(
            f"the download of {recipe.base_model} from {constants.ENDPOINT} broke off "
            f"({type(error).__name__}); redrive the execution"
        ) from None  # because an error of httpx may quote a header
    return Path(folder)


def _explain_refusal(recipe: Recipe, error: Exception, *, with_token: bool) -> str:  # noqa: PLR0911
    model, page = recipe.base_model, f"{constants.ENDPOINT}/{recipe.base_model}"
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, RevisionNotFoundError):
        return (
            f"base model {model} has no revision {recipe.base_revision}: "
            f"check training.base_revision against {page}/tree/main"
        )
    if isinstance(error, GatedRepoError) or status in {401, 403}:
        if not with_token and isinstance(error, GatedRepoError):
            return (
                f"base model {model} is gated and no Hub token was given: accept its licence at {page} and set "
                "training.gated to true (docs/deploy.md: The Hub token)"
            )
        if with_token:
            return (
                f"the Hub refused the token for {model} ({status}): accept the licence at {page} with the token's own "
                "account, or replace an expired or mistyped token in the secret (docs/deploy.md: The Hub token), then "
                "redrive the execution"
            )
        # To a request without a token, the Hub answers 401 for a private repository and for one that does not exist.
        return (
            f"base model {model} does not exist at {constants.ENDPOINT}, or is private: check training.base_model, or set "
            "training.gated to true, so that the request has the token"
        )
    if isinstance(error, RepositoryNotFoundError):
        return f"base model {model} does not exist at {constants.ENDPOINT}: check training.base_model for its spelling"
    if constants.is_offline_mode():
        return (
            f"base model {model} is not in the cache {constants.HF_HUB_CACHE} and HF_HUB_OFFLINE forbids a download: "
            "unset it, or fill the cache first"
        )
    reason = f"status {status}" if status else "no answer"
    return (
        f"the Hub at {constants.ENDPOINT} could not be reached for {model} ({reason}): "
        "check the job's network access (network.subnets, network.isolation) and access.hub_endpoint, then redrive the "
        "execution"
    )
