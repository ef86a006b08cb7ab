"""Print the state machine's definition from cdk.out, with CloudFormation's references replaced by example ARNs.

`make check` passes it to asl-validator. A reader gets it in one piece.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ASSEMBLY = Path(__file__).resolve().parent.parent / "cdk.out"


def definition(template: dict[str, Any]) -> dict[str, Any]:
    """Return the definition of the pipeline's state machine in a synthesised template."""
    machines = [
        resource["Properties"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::StepFunctions::StateMachine" and name.startswith("Pipeline")
    ]
    parsed: dict[str, Any] = json.loads(render(machines[0]["DefinitionString"]))
    return parsed


def render(value: Any) -> str:
    """Return a template's value with an example in place of each reference."""
    if isinstance(value, str):
        return value
    if "Fn::Join" in value:
        separator, parts = value["Fn::Join"]
        return str(separator).join(render(part) for part in parts)
    if "Fn::Select" in value:
        return "0a1b2c3d"
    if "Fn::GetAtt" in value:
        return f"arn:aws:iam::123456789012:role/{value['Fn::GetAtt'][0]}"
    return {"AWS::AccountId": "123456789012", "AWS::Partition": "aws", "AWS::Region": "us-west-2"}.get(
        value["Ref"], f"arn:aws:lambda:us-west-2:123456789012:function:{value['Ref']}:1"
    )


if __name__ == "__main__":
    (path,) = ASSEMBLY.glob("*.template.json")
    print(json.dumps(definition(json.loads(path.read_text(encoding="utf-8"))), indent=2))
