"""Write the policies of those who deploy and operate a stack: `python -m infra.permissions --account ACCOUNT --write FOLDER`.

The names are those of the settings: `--settings FILE` lays a file over config.yaml, as for `cdk deploy`. docs/people.md says
what each file is for, and docs/policies/ has the files of config.yaml in the account of AWS's own examples.
"""

from __future__ import annotations

import argparse
import json
import re
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
    if not re.fullmatch(r"[0-9]{12}", given.account):
        parser.error(f"--account {given.account}: give the 12 digits of the AWS account")
    try:
        given.write.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"error: {given.write} cannot be made ({error.strerror}); name a folder of yours with --write")
    try:
        found = _of_settings(given.settings, given.account)
    except (schema.SettingsError, PackageError, UncoveredError, MissingReferenceError) as error:
        sys.exit(f"error: {error}")
    for old in [*given.write.glob("deploy-*.json"), *given.write.glob("operator-*.json")]:
        old.unlink()
    for name, document in found.items():
        (given.write / name).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        print(given.write / name)


def _of_settings(layer: Path | None, account: str) -> dict[str, dict[str, Any]]:
    """Return the policies for the stack of config.yaml and the settings file over it."""
    stack = schema.load(ROOT / "config.yaml", *([layer] if layer else [])).stack
    if stack.region is None:
        raise schema.SettingsError("stack.region: the policies name the Region, and it is null; name it in config.yaml")
    place = Place(stack.name, account, stack.region, stack.qualifier or QUALIFIER)
    return documents(json.loads(template(place.region, layer)), place)


if __name__ == "__main__":
    main()
