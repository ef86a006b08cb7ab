"""Print the template of today's settings and code: `python -m infra.print_template REGION [SETTINGS]`.

`tuneway doctor` compares the deployed template with it. It is that of `cdk synth` without the checks of the CDK's and cdk-nag's
rules, which take longer than the rest and do not change it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from infra.package import PackageError
from pipeline import settings as schema

ROOT = Path(__file__).resolve().parent.parent


def template(region: str, layer: Path | None) -> str:
    """Return the stack's template as JSON.

    Args:
        region: the stack's Region.
        layer: the settings file that is laid over config.yaml.

    Raises:
        SettingsError: the settings cannot be deployed in the Region, or the functions' wheels are not there.
    """
    import aws_cdk as cdk

    from infra.stack import TunewayStack

    settings = schema.load(ROOT / "config.yaml", *([layer] if layer else []))
    context = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"]
    context["@aws-cdk/core:validateAgainstDefaultRules"] = False
    with tempfile.TemporaryDirectory() as out:
        app = cdk.App(context=context, outdir=out, analytics_reporting=False, tree_metadata=False)
        TunewayStack(app, settings, region)
        app.synth()
        return Path(out, f"{settings.stack.name}.template.json").read_text(encoding="utf-8")


if __name__ == "__main__":
    try:
        print(template(sys.argv[1], Path(sys.argv[2]) if sys.argv[2:] else None))
    except (schema.SettingsError, PackageError) as error:
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as missing:
        sys.exit(f"error: {missing.name} is not installed; run `make setup`")
