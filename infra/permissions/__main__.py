"""Write the policies of those who deploy and operate a stack: `python -m infra.permissions --account ACCOUNT --write FOLDER`.

The names are those of the settings: `--settings FILE` lays a file over config.yaml, as for `cdk deploy`. docs/people.md says
what each file is for, and docs/policies/ has the files of config.yaml in the account of AWS's own examples.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from infra.package import PackageError
from infra.permissions import bootstrap, boundary, deployment, operator
from infra.permissions.documents import divide
from infra.permissions.names import Names, Place, UncoveredError
from infra.permissions.reference import MissingReferenceError
from infra.print_template import ROOT, template
from pipeline import names
from pipeline import settings as schema

EXAMPLE_ACCOUNT = "111122223333"
"""An account of AWS's own examples."""

QUALIFIER = "tuneway"
"""The qualifier of the files if the settings name none."""


def documents(written: dict[str, Any], place: Place) -> dict[str, dict[str, Any]]:
    """Return the policies by the names of their files.

    Args:
        written: the stack's template.
        place: where the stack will be.

    Raises:
        UncoveredError: the template has something for which there is no rule.
        MissingReferenceError: AWS's tables are not installed, or lack a type of the template.
    """
    patterns = Names(written, place)
    bounded = f"arn:{place.partition}:iam::{place.account}:policy/{names.boundary(place.qualifier)}"
    deploys = divide(deployment.statements(patterns, bounded))
    found = {f"deploy-{number}.json": document for number, document in enumerate(deploys, start=1)}
    operates = divide(operator.statements(patterns))
    found |= {f"operator-{number}.json": document for number, document in enumerate(operates, start=1)}
    found |= {"boundary.json": boundary.document(patterns), "deployer.json": bootstrap.deployer(place)}
    return found | {"deployer-boundary.json": bootstrap.deployer_boundary(place)}


def main() -> None:
    """Write the files, and print their names."""
    parser = argparse.ArgumentParser(prog="python -m infra.permissions")
    parser.add_argument("--account", default=EXAMPLE_ACCOUNT, help="the 12 digits of the AWS account")
    parser.add_argument("--settings", type=Path, help="settings file that is laid over config.yaml")
    parser.add_argument("--write", type=Path, required=True, help="folder for the files")
    given = parser.parse_args()
    try:
        settings = schema.load(ROOT / "config.yaml", *([given.settings] if given.settings else []))
        stack = settings.stack
        place = Place(stack.name, given.account, stack.region or "us-west-2", stack.qualifier or QUALIFIER)
        found = documents(json.loads(template(place.region, given.settings)), place)
    except (schema.SettingsError, PackageError, UncoveredError, MissingReferenceError) as error:
        sys.exit(f"error: {error}")
    given.write.mkdir(parents=True, exist_ok=True)
    for old in [*given.write.glob("deploy-*.json"), *given.write.glob("operator-*.json")]:
        old.unlink()
    for name, document in found.items():
        (given.write / name).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        print(given.write / name)


if __name__ == "__main__":
    main()
