"""Write the page of every call that a function makes to AWS, with its errors: who tries again, how long, and what is final.

`python -m tests.proofs.retries --write docs/retries.md` writes the page. The calls are read from the code, the errors from
botocore's service models, and the kind of each error from `pipeline.aws`. Only the errors that a function itself handles are
listed here.
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
PACKAGES = ("pipeline", "data_prep", "report")
# Modules that get their clients as arguments.
CLIENT_ARGUMENTS = {
    "pipeline/endpoints.py": ("sagemaker",),
    "pipeline/job_log.py": ("logs",),
    "pipeline/registry.py": ("sagemaker",),
    "pipeline/source/base_model.py": ("s3",),
    "pipeline/source/listing.py": ("s3",),
    "pipeline/source/hub.py": ("secretsmanager",),
    "pipeline/source/splits.py": (),
    "pipeline/bedrock_teardown.py": ("bedrock",),
    "pipeline/steps/retire_models.py": ("bedrock",),
    "data_prep/sources.py": ("s3",),
    "data_prep/writer.py": ("s3",),
}
# Errors that every service answers besides those of its model: (words, code, HTTP status).
COMMON = (
    ("throttled", "ThrottlingException", 400),
    ("unavailable", "ServiceUnavailable", 503),
    ("denied", "AccessDenied", 403),
)
# The service that is called by a name which several services of a module have; "" if the word is no call.
SERVICE_OF_NAME = {
    "delete_endpoint": "sagemaker",
    "list_endpoints": "sagemaker",
    "list_tags_for_resource": "bedrock",
    "search": "",
}
FOUND = "the function looks whether it was made"
ENDED = "in cleanup and teardown, means that it has ended"
ABSENT = "means that it is not there"
LATER = "the next look tries again"
REFUSED = "the run is refused with one line"
DATASET_REFUSED = "for a dataset, the run is refused with one line"
NOT_FOUND = f'with "not found" in its message, {ABSENT}'
# What the function does with an error, by (service, operation) and error.
HANDLED: dict[tuple[str, str], dict[str, str]] = {
    ("bedrock", "CreateModelCustomizationJob"): {
        "any": f"{FOUND}; at the start of the job, the error is kept and reported, and the last state tries again"
    },
    ("bedrock", "GetModelCustomizationJob"): {"ResourceNotFoundException": ABSENT, "ValidationException": ABSENT},
    ("bedrock", "CreateModelImportJob"): {
        "any": f"{FOUND}; at the start of the job, the error is kept and reported, and the last state tries again"
    },
    ("bedrock", "GetModelImportJob"): {"ResourceNotFoundException": ABSENT, "ValidationException": ABSENT},
    ("bedrock", "CreateCustomModelDeployment"): {"any": FOUND},
    ("bedrock", "GetCustomModelDeployment"): {"ResourceNotFoundException": ABSENT, "ValidationException": ABSENT},
    **{
        ("bedrock-runtime", operation): {
            "ModelNotReadyException": "the state calls the function again for 30 minutes",
            "any but busy and denied": "the model is sick: the state fails at once",
        }
        for operation in ("Converse", "InvokeModel")
    },
    ("bedrock", "GetFoundationModel"): {
        "of an unknown operation": REFUSED,
        "ResourceNotFoundException": REFUSED,
        "ValidationException": REFUSED,
    },
    ("bedrock", "StopModelCustomizationJob"): {
        "ConflictException": ENDED,
        "ValidationException": ENDED,
    },
    **{
        ("bedrock", f"List{kind}"): {
            "out of reach": "in the teardown of a stack whose runs never used Bedrock, means that nothing is there"
        }
        for kind in (
            *("CustomModels", "CustomModelDeployments", "ImportedModels"),
            *("ModelCustomizationJobs", "ModelImportJobs"),
        )
    },
    ("bedrock", "DeleteCustomModel"): {
        "ConflictException": f"reported as in use; {LATER}",
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
    ("bedrock", "DeleteImportedModel"): {"ConflictException": LATER, "ResourceNotFoundException": LATER},
    ("bedrock", "ListTagsForResource"): {"ResourceNotFoundException": f"in the teardown, {ABSENT}"},
    ("events", "DisableRule"): {"ResourceNotFoundException": ABSENT},
    ("logs", "DeleteLogGroup"): {"ResourceNotFoundException": ABSENT},
    ("logs", "DescribeLogStreams"): {"any": "reported as a log that cannot be read; the look goes on without it"},
    ("logs", "GetLogEvents"): {"any": "reported as a log that cannot be read; the look goes on without it"},
    ("pricing", "GetProducts"): {"any": "reported as a price that is not known; Plan goes on without it"},
    ("s3", "AbortMultipartUpload"): {"NoSuchUpload": "in the teardown, means that it has been completed"},
    ("s3", "DeleteObjects"): {"of single objects": f"reported as left; {LATER}"},
    ("s3", "ListObjectsV2"): {"NoSuchBucket": REFUSED, "AccessDenied": DATASET_REFUSED},
    ("s3", "GetObject"): {
        "NoSuchKey": f"{DATASET_REFUSED}; for a shard's report and a part of a run's report, {ABSENT}",
        "AccessDenied": f"{DATASET_REFUSED}; for a part of the report, {ABSENT}",
        "PreconditionFailed": DATASET_REFUSED,
        "InvalidObjectState": DATASET_REFUSED,
    },
    ("sagemaker", "CreateTrainingJob"): {"any": FOUND},
    ("sagemaker", "CreateModel"): {"any": FOUND},
    ("sagemaker", "CreateEndpointConfig"): {"any": FOUND},
    ("sagemaker", "CreateModelPackageGroup"): {
        "ValidationException": 'with "already exists" in its message, means that it was made',
    },
    ("sagemaker", "ListModelPackages"): {
        "ValidationException": f'with "does not exist" in its message, {ABSENT}',
    },
    **{
        ("sagemaker", f"DeleteModelPackage{kind}"): {"ConflictException": LATER, "ValidationException": LATER}
        for kind in ("", "Group")
    },
    ("sagemaker", "DescribeTrainingJob"): {
        "ResourceNotFound": ABSENT,
        "ValidationException": NOT_FOUND,
    },
    ("sagemaker", "DescribeEndpoint"): {"ValidationException": NOT_FOUND},
    ("sagemaker", "DescribeEndpointConfig"): {"ValidationException": NOT_FOUND},
    ("sagemaker", "DescribeModel"): {"ValidationException": NOT_FOUND},
    ("sagemaker", "StopTrainingJob"): {"ValidationException": ENDED},
    ("sagemaker", "UpdateEndpoint"): {"ValidationException": f"in the cleanup, {LATER}"},
    ("sagemaker", "DeleteEndpoint"): {"ValidationException": f"in cleanup, teardown and the look for use, {LATER}"},
    ("sagemaker-runtime", "InvokeEndpoint"): {"any but busy": "the endpoint is sick: the state fails at once"},
    ("scheduler", "GetSchedule"): {
        "ResourceNotFoundException": "reported as an endpoint without an end, or means that there is nothing to delete"
    },
    ("scheduler", "UpdateSchedule"): {"ResourceNotFoundException": "the schedule is made with CreateSchedule"},
    ("scheduler", "DeleteSchedule"): {"ResourceNotFoundException": ABSENT},
    ("secretsmanager", "DescribeSecret"): {"ResourceNotFoundException": REFUSED},
    ("secretsmanager", "GetSecretValue"): {"ResourceNotFoundException": REFUSED},
    ("service-quotas", "ListServiceQuotas"): {"any busy": "a warning: the quota could not be read"},
    ("service-quotas", "ListAWSDefaultServiceQuotas"): {"any busy": "a warning: the quota could not be read"},
    ("stepfunctions", "StopExecution"): {
        "ValidationException": f"means that it has ended; {LATER}",
        "ExecutionDoesNotExist": f"means that it is gone; {LATER}",
    },
}


@dataclass(frozen=True)
class Call:
    """An operation, and the modules that call it."""

    service: str
    operation: str
    modules: tuple[str, ...]

    def errors(self) -> dict[str, int]:
        """Return the error codes of the service's model with their HTTP status (0 if the model has none)."""
        shapes = service_model(self.service).operation_model(self.operation).error_shapes
        return {
            str(shape.metadata.get("error", {}).get("code", shape.name)): int(
                shape.metadata.get("error", {}).get("httpStatusCode", 0)
            )
            for shape in shapes
        }


def calls() -> list[Call]:
    """Return every operation that the functions' code names, sorted by service."""
    found: dict[tuple[str, str], set[str]] = {}
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        module = path.relative_to(ROOT).as_posix()
        words = set(re.findall(r"\b[a-z]\w+\b", path.read_text(encoding="utf-8")))
        for service in (*services(path), *CLIENT_ARGUMENTS.get(module, ())):
            for operation in service_model(service).operation_names:
                name = xform_name(operation)
                if name in words and SERVICE_OF_NAME.get(name, service) == service:
                    found.setdefault((service, operation), set()).add(module)
    return [Call(*key, tuple(sorted(modules))) for key, modules in sorted(found.items())]


def services(path: Path) -> list[str]:
    """Return the services for which a module makes clients: the first arguments of calls named `...client` or `...clients`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name.endswith(("client", "clients")):
                found.add(str(node.args[0].value))
    return sorted(found)


HEAD = """# Which calls are tried again, by whom, and for how long

Written by `python -m tests.proofs.retries --write docs/retries.md` from the code and botocore's service models. A
test compares it with both.

A client tries each call three times within seconds (data prep's five times). Then the function raises one of three
errors ([pipeline/aws.py](../pipeline/aws.py)). By that error the state machine calls the function again
([infra/states.py](../infra/states.py)):

{errors}

The cleanup after a run is called again like a run's functions, and then in a loop of two hours. Lambda calls the
function that looks for use of the endpoint (pipeline/steps/idle) twice more within minutes after any error, and then
sends the call to a queue with an alarm; five minutes later the schedule calls it anyway. If AWS is busy, the
teardown counts the resource as not yet deleted, and looks again until its 50 minutes are over. The start of the
Bedrock job is not called again, because the last state of the run tries again. The report is called again for seconds
only, because the cleanup writes it again. So is the registration of the model, because the model serves without it.

Below, each call is listed with the modules that make it and with its errors. The function itself handles the errors
after "Handled"."""
ERRORS = (
    ("AwsBusy", "{busy}; HTTP 429, 500 and above; no connection.", "for an hour: {hour}"),
    ("AwsLimit", "{limits}.", "for minutes: {minutes}"),
    (
        "AwsRefused",
        "every other error.",
        "for seconds, because a role may not be known everywhere yet: {seconds}; then it is final",
    ),
)


def pauses(retrier: dict[str, Any]) -> list[float]:
    """Return the pauses of a state's retrier in seconds, if no jitter shortens them."""
    interval, rate, most = retrier["IntervalSeconds"], retrier["BackoffRate"], retrier.get("MaxDelaySeconds", math.inf)
    return [min(interval * rate**count, most) for count in range(retrier["MaxAttempts"])]


def table() -> str:
    """Return the page, in Markdown."""
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
    handling = ", ".join(f"{code} ({text})" for code, text in handled.items())
    modules = ", ".join(module.removesuffix(".py") for module in call.modules)
    facts = (
        ("For an hour", ", ".join(by_kind[aws.AwsBusy])),
        ("For minutes", ", ".join(by_kind[aws.AwsLimit])),
        ("Final after seconds", ", ".join(by_kind[aws.AwsRefused])),
        ("Handled", handling),
    )
    items = [item(f"  - {name}: {text}") for name, text in facts if text]
    return [item(f"- **{call.operation}** ({modules})"), *items]


def main() -> None:
    """Print the page, or write it to the file of `--write`."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.retries")
    parser.add_argument("--write", type=Path, help="file for the page, in Markdown")
    arguments = parser.parse_args()
    if arguments.write:
        arguments.write.write_text(table(), encoding="utf-8")
    else:
        print(table())


if __name__ == "__main__":
    main()
