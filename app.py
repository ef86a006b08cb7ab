"""The CDK app: it reads the settings, makes one stack and checks it with cdk-nag."""

from __future__ import annotations

import os
import sys
from pathlib import Path

try:
    import aws_cdk as cdk
    from cdk_nag import AwsSolutionsChecks

    from infra.stack import TunewayStack
    from pipeline import settings as schema
except ModuleNotFoundError as missing:
    sys.exit(
        f"error: {missing.name} is not installed for {sys.executable}; run `make setup`, then `. .venv/bin/activate`"
    )

ROOT = Path(__file__).resolve().parent

app = cdk.App()
try:
    layer = app.node.try_get_context("settings")
    settings = schema.load(ROOT / "config.yaml", *([Path(layer)] if layer else []))
    region = settings.stack.region or os.environ.get("CDK_DEFAULT_REGION") or "us-west-2"
    stack = TunewayStack(app, settings, region)
except schema.SettingsError as error:
    sys.exit(f"error: {error}")
cdk.Validations.of(stack).add_plugins(AwsSolutionsChecks(verbose=True))
app.synth()
print(f"Tuneway: stack {settings.stack.name} in {region}", file=sys.stderr)
