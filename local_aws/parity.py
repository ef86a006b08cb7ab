"""Write PARITY.md from the markers in this package: `python -m local_aws.parity`.

A marker is a comment above its code. `Differs` marks an intended difference from AWS. `Unconfirmed` marks a belief that
nobody could try on a live account. A line with more indentation continues the line above:

    # Differs: subject | AWS: behaviour of AWS | Here: behaviour of local AWS
    #   | Why: the reason
    # Unconfirmed: subject | Here: behaviour of local AWS | Source: the origin of the belief
"""

from __future__ import annotations

import hashlib
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
# The beginning of a file's path -> the service in whose section its markers are.
SERVICES = {
    "core/authorization.py": "IAM",
    "core/provisioning.py": "CloudFormation",
    "ministack/alarms.py": "CloudWatch",
    "ministack/cloudformation.py": "CloudFormation",
    "ministack/dashboards.py": "CloudWatch",
    "ministack/embedded_metrics.py": "CloudWatch",
    "ministack/functions.py": "Lambda",
    "ministack/metrics.py": "CloudWatch",
    "ministack/stack_roles.py": "CloudFormation",
    "ministack/schedules.py": "EventBridge Scheduler",
    "ministack/": "IAM",
    "services/access_analyzer.py": "IAM",
    "services/bedrock/": "Bedrock",
    "services/lambda_functions/": "Lambda",
    "services/pricing.py": "Price List",
    "services/quotas.py": "Service Quotas",
    "services/sagemaker/metrics.py": "CloudWatch",
    "services/sagemaker/": "SageMaker",
    "services/scheduler.py": "EventBridge Scheduler",
    "services/stepfunctions/": "Step Functions",
    "vllm/": "SageMaker",
}
_HEAD = """# What differs from AWS, and what nobody could confirm

`python -m local_aws.parity` writes this page from the markers beside the code. Do not edit it. *Differs* lists intended
differences with their reasons. *Unconfirmed* lists behaviour that follows documentation, service models or issues, with
the source. Nobody has tried it on a live account. A row has its id after its file.
"""


class MarkerError(Exception):
    """A marker lacks a field, or has a field that its kind does not have."""


@dataclass(frozen=True)
class Marker:
    """One marker. `fields` are the fields of its kind, in their order."""

    kind: str
    what: str
    fields: dict[str, str]
    path: str

    @property
    def id(self) -> str:
        """Six digits that name the marker. They follow from its subject, so that they stay when its text changes."""
        return hashlib.sha256(self.what.encode()).hexdigest()[:6]

    @property
    def service(self) -> str:
        """The section of the marker."""
        return next(name for start, name in SERVICES.items() if self.path.startswith(start))


def markers(root: Path = ROOT) -> Iterator[Marker]:
    """Yield all markers of a folder's modules. Raises MarkerError."""
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
    """Return the text of PARITY.md."""
    lines = [_HEAD]
    for service in sorted({marker.service for marker in found}):
        lines.append(f"## {service}\n")
        for kind in KINDS:
            own = [marker for marker in found if (marker.service, marker.kind) == (service, kind)]
            lines += [f"### {kind}\n"] * bool(own)
            for marker in own:
                lines.append(_wrapped(f"- **{marker.what}** (`{marker.path}`, {marker.id})"))
                lines += [_wrapped(f"  - {name}: {text}") for name, text in marker.fields.items()]
            lines += [""] * bool(own)
    return "\n".join(lines).rstrip() + "\n"


def _wrapped(text: str) -> str:
    indent = " " * (text.index("-") + 2)
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    TARGET.write_text(page(list(markers())), encoding="utf-8")
