"""Names on the Hugging Face Hub."""

import re


def is_hub_name(name: str) -> bool:
    """Return whether `name` is OWNER/NAME in the form that the Hub takes (`huggingface_hub.utils.validate_repo_id`)."""
    part = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
    return (
        re.fullmatch(f"{part}/(?=.{{1,96}}$){part}", name) is not None
        and not {"--", ".."} & {name[n : n + 2] for n in range(len(name))}
        and not name.endswith(".git")
    )
