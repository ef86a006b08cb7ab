"""Write PARITY.md from the markers in this package: `python -m local_aws.parity`.

A marker is a comment above the code that it is about. `Differs` is a difference from AWS on purpose, `Unconfirmed` is a
belief that could not be tried on a live account. A line that is indented further goes on with the one above:

    # Differs: what | AWS: how AWS does it | Here: how it is done here
    #   | Why: the reason
    # Unconfirmed: what | Here: what is done here | Source: where that comes from
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent
TARGET = ROOT / "PARITY.md"
KINDS = {"Differs": ("AWS", "Here", "Why"), "Unconfirmed": ("Here", "Source")}
# The beginning of a file's path -> the service whose section its markers are in.
SERVICES = {
    "core/authorization.py": "IAM",
    "ministack/alarms.py": "CloudWatch",
    "ministack/cloudformation.py": "CloudFormation",
    "ministack/functions.py": "Lambda",
    "ministack/schedules.py": "EventBridge Scheduler",
    "ministack/": "IAM",
    "services/bedrock/": "Bedrock",
    "services/lambda_functions/": "Lambda",
    "services/quotas.py": "Service Quotas",
    "services/sagemaker/": "SageMaker",
    "services/scheduler.py": "EventBridge Scheduler",
    "services/stepfunctions/": "Step Functions",
    "vllm/": "SageMaker",
}
_HEAD = """# What differs from AWS, and what nobody could confirm

`python -m local_aws.parity` writes this page from the markers beside the code; do not edit it. *Differs*: on purpose,
with the reason. *Unconfirmed*: built after documentation, service models or issues, and never tried on a live account;
the source says where it comes from.
"""


class MarkerError(Exception):
    """A marker that lacks a field or has one that its kind does not have."""


@dataclass(frozen=True)
class Marker:
    """One marker; `fields` are those of its kind, in their order."""

    kind: str
    what: str
    fields: dict[str, str]
    path: str

    @property
    def service(self) -> str:
        """The section that it is in."""
        return next(name for start, name in SERVICES.items() if self.path.startswith(start))


def markers(root: Path = ROOT) -> Iterator[Marker]:
    """All markers of a folder's modules. Raises MarkerError."""
    for path in sorted(root.rglob("*.py")):
        if path == Path(__file__):
            continue
        name = path.relative_to(root).as_posix()
        text = path.read_text(encoding="utf-8")
        for found in re.finditer(r"(?m)^ *# (Differs|Unconfirmed): (.*\n(?: *#   .*\n)*)", text):
            what, *rest = re.sub(r"\n *#   ", " ", found[2]).strip().split(" | ")
            fields = dict(part.partition(": ")[::2] for part in rest)
            if tuple(fields) != KINDS[found[1]] or not all(fields.values()):
                raise MarkerError(f"{name}: '{what}' needs {', '.join(KINDS[found[1]])}, and has {', '.join(fields)}")
            yield Marker(found[1], what, fields, name)


def page(found: list[Marker]) -> str:
    """The text of PARITY.md."""
    lines = [_HEAD]
    for service in sorted({marker.service for marker in found}):
        lines.append(f"## {service}\n")
        for kind in KINDS:
            own = [marker for marker in found if (marker.service, marker.kind) == (service, kind)]
            lines += [f"### {kind}\n"] * bool(own)
            for marker in own:
                lines.append(_wrapped(f"- **{marker.what}** (`{marker.path}`)"))
                lines += [_wrapped(f"  - {name}: {text}") for name, text in marker.fields.items()]
            lines += [""] * bool(own)
    return "\n".join(lines).rstrip() + "\n"


def _wrapped(text: str) -> str:
    indent = " " * (text.index("-") + 2)
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    TARGET.write_text(page(list(markers())), encoding="utf-8")
