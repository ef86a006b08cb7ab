"""The one schema of the settings: config.yaml, the file of `-c settings=`, and an execution's input.

Every field has a scope. A `deploy` field shapes the resources in the account: edit config.yaml and deploy. A `run` field
shapes one run: an execution's input may override it, in the same form as config.yaml.
"""

from pipeline.settings.base import FieldScope, SettingsError, scope, sections
from pipeline.settings.bedrock import BedrockSettings
from pipeline.settings.dataset import DatasetSettings
from pipeline.settings.endpoint import EndpointSettings
from pipeline.settings.loading import RENAMED, load, overlay, validate, with_run_input
from pipeline.settings.schema import EXECUTION_DAYS, Settings
from pipeline.settings.stack import FunctionsSettings
from pipeline.settings.training import EvaluationSettings, LoraSettings, TrainingSettings

__all__ = [
    "EXECUTION_DAYS",
    "RENAMED",
    "BedrockSettings",
    "DatasetSettings",
    "EndpointSettings",
    "EvaluationSettings",
    "FieldScope",
    "FunctionsSettings",
    "LoraSettings",
    "Settings",
    "SettingsError",
    "TrainingSettings",
    "load",
    "overlay",
    "scope",
    "sections",
    "validate",
    "with_run_input",
]
