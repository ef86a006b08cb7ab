"""A small AWS CLI for the commands in the pages: `python -m tests.docs.aws_cli SERVICE OPERATION --parameter value ...`.

The real one is not installed here. This one takes services, operations and parameters from botocore's models, as the real one
does, and reads values as the user guide of the AWS CLI says: `file://PATH`, JSON, and the shorthand `Key=value,Key=value`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import botocore.session
from botocore import xform_name
from botocore.model import ListShape, Shape, StructureShape
from botocore.validate import ParamValidator

if TYPE_CHECKING:
    from collections.abc import Sequence

GLOBAL = {"region", "profile", "output", "query", "endpoint-url"}
"""The options of every command (AWS CLI user guide, "Command line options")."""

HIGH_LEVEL = {("sso", "login"), ("s3", "cp"), ("s3", "sync"), ("configure", "sso"), ("configure", "list-profiles")}
"""Commands that the AWS CLI has beside the operations of the services (its command reference)."""


class CommandError(Exception):
    """The service, the operation or a parameter does not exist, or a value has another type."""


class AwsCommand(NamedTuple):
    """A parsed command: the service, the operation's method of boto3, the parameters, and the global options."""

    service: str
    method: str
    parameters: dict[str, Any]
    options: dict[str, str]


def parse(words: Sequence[str], *, read: bool = False) -> AwsCommand | None:
    """Return the command; None for one that is no operation of a service.

    Args:
        words: the words behind `aws`.
        read: read the files of `file://`, and check all values by the operation's shape.

    Raises:
        CommandError: as above.
    """
    service, command, *rest = words
    if (service, command) in HIGH_LEVEL:
        return None
    session = botocore.session.get_session()
    if service not in session.get_available_services():
        raise CommandError(f"AWS has no service {service}")
    model = session.get_service_model(service)
    operations = {xform_name(name, "-"): name for name in model.operation_names}
    if command not in operations:
        raise CommandError(f"{service} has no operation {command}")
    shape = model.operation_model(operations[command]).input_shape
    members = {xform_name(name, "-"): (name, member) for name, member in shape.members.items()} if shape else {}
    options: dict[str, str] = {}
    parameters: dict[str, Any] = {}
    for name, values in _options(rest):
        if name in GLOBAL:
            options[name] = " ".join(values)
        elif name in members:
            member, of = members[name]
            parameters[member] = _value(values, of, read=read)
        elif name.removeprefix("no-") in members and not values:
            parameters[members[name.removeprefix("no-")][0]] = False
        else:
            raise CommandError(f"{service} {command} has no parameter --{name}")
    if read and shape:
        report = ParamValidator().validate(parameters, shape)
        if report.has_errors():
            raise CommandError(report.generate_report())
    return AwsCommand(service, xform_name(operations[command]), parameters, options)


def _options(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for word in words:
        if word.startswith("--"):
            found.append((word.removeprefix("--"), []))
        elif found:
            found[-1][1].append(word)
        else:
            raise CommandError(f"{word} is no option")
    return found


def _value(words: list[str], shape: Shape, *, read: bool) -> Any:
    """Return the value of a parameter from its words."""
    text = " ".join(words)
    if text.startswith("file://"):
        return Path(text.removeprefix("file://")).read_text(encoding="utf-8") if read else text
    if text[:1] in ("{", "[") and isinstance(shape, (StructureShape, ListShape)):
        return json.loads(text)
    if isinstance(shape, ListShape):
        return [_value([word], shape.member, read=read) for word in words]
    if isinstance(shape, StructureShape):
        pairs = dict(pair.split("=", 1) for pair in text.split(","))
        unknown = pairs.keys() - shape.members.keys()
        if unknown:
            raise CommandError(f"{shape.name} has no member {', '.join(sorted(unknown))}")
        return {name: _value([value], shape.members[name], read=read) for name, value in pairs.items()}
    if shape.type_name == "boolean":
        return text != "false"
    return int(text) if shape.type_name in ("integer", "long") else text


def main() -> None:
    """Call the operation, and print its answer as JSON."""
    import boto3

    try:
        found = parse(sys.argv[1:], read=True)
    except CommandError as error:
        sys.exit(f"aws: {error}")
    if found is None:
        sys.exit("aws: this command is no operation of a service")
    client = boto3.client(found.service, region_name=found.options.get("region"))
    answer = getattr(client, found.method)(**found.parameters)
    answer.pop("ResponseMetadata", None)
    print(json.dumps(answer, default=str, indent=4))


if __name__ == "__main__":
    main()
