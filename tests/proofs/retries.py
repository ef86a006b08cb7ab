"""Every call that a function makes of AWS, with its errors: who tries again, for how long, and what is final.

`python -m tests.proofs.retries --write docs/retries.md` writes the table. The calls are read out of the code, the errors out of
botocore's service models, and what becomes of each out of `pipeline.aws`; only what a function does with an error itself is
written down here.
"""

from __future__ import annotations

import argparse
import ast
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore import xform_name

from infra.states import HOUR, MINUTES, SECONDS
from local_aws.core.authorization import service_model
from pipeline import aws
from tests.proofs.markdown import item

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("pipeline", "data_prep")
# Modules that are handed their clients.
HANDED = {
    "pipeline/endpoints.py": ("sagemaker",),
    "pipeline/source/base_model.py": ("s3",),
    "pipeline/source/listing.py": ("s3",),
    "pipeline/source/hub.py": ("secretsmanager",),
    "pipeline/source/splits.py": (),
    "pipeline/steps/teardown.py": ("bedrock",),
    "data_prep/sources.py": ("s3",),
    "data_prep/writer.py": ("s3",),
}
# Beside what a service's model names, all answer this: (words, code, HTTP status).
COMMON = (
    ("throttled", "ThrottlingException", 400),
    ("unavailable", "ServiceUnavailable", 503),
    ("denied", "AccessDenied", 403),
)
# Names that several services of a module have, and a word that is no call -> the service that is meant.
MEANT = {
    "delete_endpoint": "sagemaker",
    "list_endpoints": "sagemaker",
    "list_tags_for_resource": "bedrock",
    "search": "",
}
FOUND = "answered by looking whether it is there"
ENDED = "in cleanup and teardown: it has ended meanwhile"
ABSENT = "taken for: it is not there"
LATER = "the next look tries again"
# (service, operation) -> error -> what the function does with it.
HANDLED: dict[tuple[str, str], dict[str, str]] = {
    ("bedrock", "CreateModelCustomizationJob"): {
        "any": f"{FOUND}; at the start of the job kept and told, and tried again at the end"
    },
    ("bedrock", "GetModelCustomizationJob"): {"ResourceNotFoundException": ABSENT, "ValidationException": ABSENT},
    ("bedrock", "GetFoundationModel"): {
        "of an unknown operation": "refused with a line",
        "ResourceNotFoundException": "refused with a line",
        "ValidationException": "refused with a line",
    },
    ("bedrock", "StopModelCustomizationJob"): {
        "ConflictException": ENDED,
        "ValidationException": ENDED,
    },
    **{
        ("bedrock", f"List{kind}"): {
            "out of reach": "of a stack whose runs never used Bedrock, in the teardown: taken for: nothing is there"
        }
        for kind in ("CustomModels", "ImportedModels", "ModelCustomizationJobs")
    },
    ("bedrock", "DeleteCustomModel"): {
        "ConflictException": f"named as in use; {LATER}",
        "ResourceNotFoundException": LATER,
    },
    **{
        ("bedrock", f"Delete{kind}"): {
            "ConflictException": LATER,
            "ValidationException": LATER,
            "ResourceNotFoundException": LATER,
        }
        for kind in ("CustomModelDeployment", "ProvisionedModelThroughput")
    },
    ("bedrock", "DeleteImportedModel"): {"ResourceNotFoundException": ABSENT},
    ("bedrock", "ListTagsForResource"): {"ResourceNotFoundException": f"in the teardown {ABSENT}"},
    ("events", "DisableRule"): {"ResourceNotFoundException": ABSENT},
    ("logs", "DeleteLogGroup"): {"ResourceNotFoundException": ABSENT},
    ("logs", "DescribeLogStreams"): {"any": "told as a log that cannot be read; the look goes on without"},
    ("logs", "GetLogEvents"): {"any": "told as a log that cannot be read; the look goes on without"},
    ("s3", "AbortMultipartUpload"): {"NoSuchUpload": "in the teardown: it is complete meanwhile"},
    ("s3", "DeleteObjects"): {"of single objects": f"told as left; {LATER}"},
    ("s3", "ListObjectsV2"): {"NoSuchBucket": "refused with a line", "AccessDenied": "refused with a line (a dataset)"},
    ("s3", "GetObject"): {
        "NoSuchKey": "refused with a line (a dataset); a shard without report",
        "AccessDenied": "refused with a line (a dataset)",
        "PreconditionFailed": "refused with a line (a dataset)",
        "InvalidObjectState": "refused with a line (a dataset)",
    },
    ("sagemaker", "CreateTrainingJob"): {"any": FOUND},
    ("sagemaker", "CreateModel"): {"any": FOUND},
    ("sagemaker", "CreateEndpointConfig"): {"any": FOUND},
    ("sagemaker", "DescribeTrainingJob"): {
        "ResourceNotFound": ABSENT,
        "ValidationException": "not found: it is not there",
    },
    ("sagemaker", "DescribeEndpoint"): {"ValidationException": "not found: it is not there"},
    ("sagemaker", "DescribeEndpointConfig"): {"ValidationException": "not found: it is not there"},
    ("sagemaker", "DescribeModel"): {"ValidationException": "not found: it is not there"},
    ("sagemaker", "StopTrainingJob"): {"ValidationException": ENDED},
    ("sagemaker", "UpdateEndpoint"): {"ValidationException": f"in the cleanup: {LATER}"},
    ("sagemaker", "DeleteEndpoint"): {"ValidationException": f"in cleanup and teardown: {LATER}"},
    ("sagemaker-runtime", "InvokeEndpoint"): {"any but busy": "the endpoint is sick: the state fails at once"},
    ("scheduler", "GetSchedule"): {
        "ResourceNotFoundException": "told as an endpoint without an end, or nothing to delete"
    },
    ("scheduler", "UpdateSchedule"): {"ResourceNotFoundException": "made by CreateSchedule"},
    ("scheduler", "DeleteSchedule"): {"ResourceNotFoundException": ABSENT},
    ("secretsmanager", "DescribeSecret"): {"ResourceNotFoundException": "refused with a line"},
    ("secretsmanager", "GetSecretValue"): {"ResourceNotFoundException": "refused with a line"},
    ("service-quotas", "ListServiceQuotas"): {"any busy": "a warning: the quota could not be read"},
    ("service-quotas", "ListAWSDefaultServiceQuotas"): {"any busy": "a warning: the quota could not be read"},
    ("stepfunctions", "StopExecution"): {
        "ValidationException": f"it has ended meanwhile; {LATER}",
        "ExecutionDoesNotExist": f"it is gone; {LATER}",
    },
}


@dataclass(frozen=True)
class Call:
    """An operation, and the modules that call it."""

    service: str
    operation: str
    modules: tuple[str, ...]

    def errors(self) -> dict[str, int]:
        """Error codes of the service's model, with their HTTP status (0 where the model has none)."""
        shapes = service_model(self.service).operation_model(self.operation).error_shapes
        return {
            str(shape.metadata.get("error", {}).get("code", shape.name)): int(
                shape.metadata.get("error", {}).get("httpStatusCode", 0)
            )
            for shape in shapes
        }


def calls() -> list[Call]:
    """Every operation that the functions' code names, by service."""
    found: dict[tuple[str, str], set[str]] = {}
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        module = path.relative_to(ROOT).as_posix()
        words = set(re.findall(r"\b[a-z]\w+\b", path.read_text(encoding="utf-8")))
        for service in (*services(path), *HANDED.get(module, ())):
            for operation in service_model(service).operation_names:
                name = xform_name(operation)
                if name in words and MEANT.get(name, service) == service:
                    found.setdefault((service, operation), set()).add(module)
    return [Call(*key, tuple(sorted(modules))) for key, modules in sorted(found.items())]


def services(path: Path) -> list[str]:
    """The services of which a module makes clients: first arguments of calls whose name ends in `client`."""
    named = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name.endswith("client"):
                named.add(str(node.args[0].value))
    return sorted(named)


HEAD = """# What is tried again, by whom, for how long

Written by `python -m tests.proofs.retries --write docs/retries.md` from the code and botocore's service models. A
test holds it against both.

A client tries each call three times within seconds (data prep's five times). Then the function raises one of three
errors ([pipeline/aws.py](../pipeline/aws.py)). By that error the state machine calls the function again
([infra/states.py](../infra/states.py)):

{errors}

The cleanup after a run is called again like a run's functions, and then in a loop of two hours. The teardown takes what
is busy for something left, and looks again until its 50 minutes are over. The start of the Bedrock job alone is not
called again: the last state of the run asks anew.

Below, each call has the modules that make it and its errors. A function itself deals with the errors after
"Dealt with"."""
ERRORS = (
    ("AwsBusy", "{busy}; HTTP 429, 500 and above; no connection.", "for an hour: {hour}"),
    ("AwsLimit", "{limits}.", "for minutes: {minutes}"),
    (
        "AwsRefused",
        "every other.",
        "for seconds, as a role may not be known everywhere yet: {seconds}; then it is final",
    ),
)


def pauses(retrier: dict[str, Any]) -> list[float]:
    """The pauses of a state's retrier in seconds, where no jitter shortens them."""
    interval, rate, most = retrier["IntervalSeconds"], retrier["BackoffRate"], retrier.get("MaxDelaySeconds", math.inf)
    return [min(interval * rate**count, most) for count in range(retrier["MaxAttempts"])]


def table() -> str:
    """The page, in Markdown."""
    hour, minutes, seconds = (
        f"{retrier['MaxAttempts']} times, {sum(pauses(retrier)):g} s of pauses in all"
        for retrier in (HOUR, MINUTES, SECONDS)
    )
    facts = {
        "busy": ", ".join(aws.BUSY),
        "limits": ", ".join(aws.LIMITS),
        "hour": hour,
        "minutes": minutes,
        "seconds": seconds,
    }
    errors = (
        item(f"- **{name}**: {which} It is called again {again}.".format(**facts)) for name, which, again in ERRORS
    )
    lines, service = [HEAD.format(errors="\n".join(errors))], ""
    for call in calls():
        if call.service != service:
            service = call.service
            lines.append(f"\n## {service}\n")
        lines += _lines(call)
    return "\n".join(lines) + "\n"


def _lines(call: Call) -> list[str]:
    by_kind: dict[type[Exception], list[str]] = {aws.AwsBusy: [], aws.AwsLimit: [], aws.AwsRefused: []}
    errors = [*COMMON, *((code, code, status) for code, status in call.errors().items())]
    handled = HANDLED.get((call.service, call.operation), {})
    for words, code, status in errors:
        if code not in handled and words not in by_kind[aws.kind_of_code(code, status)]:
            by_kind[aws.kind_of_code(code, status)].append(words)
    dealt = "; ".join(f"{code}: {what}" for code, what in handled.items())
    modules = ", ".join(module.removesuffix(".py") for module in call.modules)
    facts = (
        ("For an hour", ", ".join(by_kind[aws.AwsBusy])),
        ("For minutes", ", ".join(by_kind[aws.AwsLimit])),
        ("Final after seconds", ", ".join(by_kind[aws.AwsRefused])),
        ("Dealt with", dealt),
    )
    shown = [item(f"  - {name}: {text}") for name, text in facts if text]
    return [item(f"- **{call.operation}** ({modules})"), *shown]


def main() -> None:
    """Print the page, or write it where `--write` says."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.retries")
    parser.add_argument("--write", type=Path, help="file for the page, in Markdown")
    arguments = parser.parse_args()
    if arguments.write:
        arguments.write.write_text(table(), encoding="utf-8")
    else:
        print(table())


if __name__ == "__main__":
    main()
