"""IAM Access Analyzer on this machine: ValidatePolicy, which checks the grammar of a policy.

Sources: "IAM policy validation check reference" in the IAM User Guide (issue codes, types of findings and texts), "Grammar of
the IAM JSON policy language", and the API Reference.
"""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from local_aws.core.registry import Registered, Request, register_service
from local_aws.services.apis import ACCESS_ANALYZER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PAGE = "https://docs.aws.amazon.com/IAM/latest/UserGuide/access-analyzer-reference-policy-checks.html"
_CHECKS = {"ERROR": "error", "WARNING": "general-warning", "SECURITY_WARNING": "security-warning"}
"""Types of findings -> the word for them in the anchors of that page."""

_TRUST = "AWS::IAM::AssumeRolePolicyDocument"
_TOP = {"Version", "Id", "Statement"}
_ELEMENTS = {
    *("Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"),
}
_PARTITIONS = ("aws", "aws-cn", "aws-us-gov", "*")
_OPERATORS = re.compile(
    r"(ForAllValues:|ForAnyValue:)?(String(Not)?(Equals(IgnoreCase)?|Like)|Numeric(Not)?Equals|Numeric(Less|Greater)Than(Equals)?|"
    r"Date(Not)?Equals|Date(Less|Greater)Than(Equals)?|Bool|BinaryEquals|(Not)?IpAddress|Arn(Not)?(Equals|Like))(IfExists)?|Null"
)
Finding = tuple[str, str, str, list[Any]]
"""The type, the issue code, the details and the path of a finding."""


# Differs: What ValidatePolicy checks | AWS: over a hundred checks, among them actions, resource types and condition keys of
#   each service | Here: the grammar, the form of actions and ARNs, the operators of conditions, and iam:PassRole on all
#   roles | Why: the tables of all services are large; local AWS decides on the calls themselves
# Unconfirmed: The path of a finding of ValidatePolicy | Here: from the document to the element; no span's columns | Source:
#   service model
@ACCESS_ANALYZER.operation
def validate_policy(_: None, params: dict[str, Any], _request: Request) -> dict[str, Any]:
    """Return the findings about a policy."""
    found = list(problems(params["policyDocument"], params["policyType"], params.get("validatePolicyResourceType")))
    return {"findings": [_finding(*one) for one in found]}


def _finding(kind: str, code: str, details: str, path: list[Any]) -> dict[str, Any]:
    check = f"{_CHECKS[kind]}-{code.lower().replace('_', '-')}"
    position = {"line": 1, "column": 0, "offset": 0}
    elements = [{"index": part} if isinstance(part, int) else {"value": part} for part in path]
    return {
        "findingType": kind,
        "issueCode": code,
        "findingDetails": details,
        "learnMoreLink": f"{_PAGE}#access-analyzer-reference-policy-checks-{check}",
        "locations": [{"path": elements, "span": {"start": position, "end": position}}],
    }


def problems(text: str, kind: str, resource: str | None = None) -> Iterator[Finding]:
    """Yield each finding.

    Args:
        text: the policy as JSON.
        kind: IDENTITY_POLICY or RESOURCE_POLICY.
        resource: the type of the resource that has the policy.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        yield "ERROR", "JSON_SYNTAX_ERROR", f"Fix the JSON syntax error: {error}.", []
        return
    if not isinstance(document, dict):
        yield "ERROR", "DATA_TYPE_MISMATCH", "The text does not match the expected JSON data type OBJECT.", []
        return
    for name in document.keys() - _TOP:
        yield "ERROR", "INVALID_POLICY_ELEMENT", f"The policy element {name} is not valid.", [name]
    if "Version" not in document:
        yield "WARNING", "MISSING_VERSION", "We recommend that you specify the Version element.", []
    elif document["Version"] not in ("2012-10-17", "2008-10-17"):
        yield "ERROR", "INVALID_VERSION", f"The version {document['Version']} is not valid.", ["Version"]
    if not document.get("Statement"):
        yield "ERROR", "MISSING_STATEMENT", "Add a Statement element to the policy.", []
        return
    statements = document["Statement"] if isinstance(document["Statement"], list) else [document["Statement"]]
    sids = [statement["Sid"] for statement in statements if isinstance(statement, dict) and statement.get("Sid")]
    if len(sids) != len(set(sids)):
        yield "ERROR", "UNIQUE_SIDS_REQUIRED", "Duplicate statement IDs are not supported for this policy type.", []
    for number, statement in enumerate(statements):
        if not isinstance(statement, dict):
            yield "ERROR", "DATA_TYPE_MISMATCH", "The text does not match the expected JSON data type OBJECT.", [number]
            continue
        for finding in _statement(statement, kind, trusts=resource == _TRUST):
            yield (*finding[:3], ["Statement", number, *finding[3]])


def _statement(statement: dict[str, Any], kind: str, *, trusts: bool) -> Iterator[Finding]:
    for name in statement.keys() - _ELEMENTS:
        yield "ERROR", "INVALID_POLICY_ELEMENT", f"The policy element {name} is not valid.", [name]
    effect = statement.get("Effect")
    if effect is None:
        yield "ERROR", "MISSING_EFFECT", "Add an Effect element to the policy statement.", []
    elif effect not in ("Allow", "Deny"):
        yield "ERROR", "INVALID_EFFECT", f"The effect {effect} is not valid. Use Allow or Deny.", ["Effect"]
    for name in ("Action", "Resource", "Principal"):
        if name in statement and f"Not{name}" in statement:
            text = f"The policy elements {name} and Not{name} cannot be used in the same statement."
            yield "ERROR", "UNSUPPORTED_ELEMENT_COMBINATION", text, [name]
    has_principal = "Principal" in statement or "NotPrincipal" in statement
    if kind == "RESOURCE_POLICY" and not has_principal:
        yield "ERROR", "MISSING_PRINCIPAL", "Add a Principal element to the policy statement.", []
    if kind == "IDENTITY_POLICY" and has_principal:
        yield "ERROR", "UNSUPPORTED_PRINCIPAL", "The policy type IDENTITY_POLICY does not support Principal.", []
    if not (statement.get("Action") or statement.get("NotAction")):
        yield "ERROR", "MISSING_ACTION", "Add an Action or NotAction element to the policy statement.", []
    has_resource = bool(statement.get("Resource") or statement.get("NotResource"))
    if not has_resource and not trusts:
        yield "ERROR", "MISSING_RESOURCE", "Add a Resource or NotResource element to the policy statement.", []
    yield from _parts(statement)


def _parts(statement: dict[str, Any]) -> Iterator[Finding]:
    actions = _list(statement.get("Action", statement.get("NotAction")))
    for action in actions:
        if action != "*" and not re.fullmatch(r"[a-z0-9-]+:[A-Za-z0-9*?]+", str(action)):
            yield "ERROR", "INVALID_ACTION", f"The action {action} does not exist.", ["Action"]
    resources = _list(statement.get("Resource", statement.get("NotResource")))
    for arn in resources:
        if arn == "*":
            continue
        parts = str(arn).split(":", 5)
        if parts[0] != "arn":
            yield "ERROR", "INVALID_ARN_PREFIX", "Add the required prefix (arn) to the resource ARN.", ["Resource"]
        elif len(parts) < 6:
            yield "ERROR", "MISSING_ARN_FIELD", "Resource ARNs must include at least 6 fields.", ["Resource"]
        elif parts[1] not in _PARTITIONS:
            yield "ERROR", "INVALID_PARTITION", f"The partition {parts[1]} is not valid.", ["Resource"]
    for operator in statement.get("Condition", {}):
        if not _OPERATORS.fullmatch(operator):
            text = f"The condition operator {operator} is not valid."
            yield "ERROR", "INVALID_CONDITION_OPERATOR", text, ["Condition", operator]
    if "iam:PassRole" in actions and "*" in resources and statement.get("Effect") == "Allow":
        text = "Using the iam:PassRole action with wildcards (*) in the resource can be overly permissive."
        yield "SECURITY_WARNING", "PASS_ROLE_WITH_STAR_IN_RESOURCE", text, ["Resource"]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def register(_state_dir: Path, _endpoint_url: str) -> None:
    """Answer IAM Access Analyzer's calls."""
    handler = partial(ACCESS_ANALYZER.handle, None)
    register_service(
        Registered(
            "access-analyzer",
            handler,
            paths="/policy/validation",
            signing_name="access-analyzer",
            model="accessanalyzer",
        )
    )
