"""`$plan` of an execution, and the requests that its functions send, made by the product's own code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore import xform_name

from local_aws.core.authorization import service_model
from local_aws.core.shapes import validate
from pipeline import money, record, requests
from pipeline import settings as schema
from pipeline.bedrock import choose
from pipeline.contracts.planned import DeployPlan, Plan, PlannedBaseModel, PlannedDataset, StackFacts
from pipeline.contracts.values import as_json, parse
from pipeline.source import listing
from pipeline.source.preparation import preparation
from pipeline.source.splits import File
from pipeline.steps import deploy, deploy_custom_model, plan
from pipeline.steps.customize import CustomizationJobs
from pipeline.steps.import_model import ImportJobs
from pipeline.steps.train import TrainingJobs

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesised

RUN = "0123456789"
CUSTOM_MODEL = "arn:aws:bedrock:us-west-2:123456789012:custom-model/meta.llama3-3-70b-instruct-v1:0:128k/0123456789ab"
MODEL = "s3://bucket/models/0123456789/job/output/model/"
CONTEXT = {
    "Execution": {"Id": "arn:aws:states:us-west-2:1:execution:m:e", "RedriveCount": 3},
    "State": {"RetryCount": 2},
    "StateMachine": {"Id": "arn:aws:states:us-west-2:1:stateMachine:m"},
}

PREPARED = {
    "refused": None,
    "manifest": "s3://bucket/data/0123456789/manifest.json",
    "counts": {"train": 9},
    "formats": {"messages": 1},
    "system": "Be kind.",
    "warnings": ["long"],
}
"""The answer of data prep."""
CALL = {"base_url": "https://runtime/openai/v1", "python": ["import this", "print(1)"]}
"""How to call the endpoint, as the smoke test answers."""


def assigned(synthesised: Synthesised) -> dict[str, Any]:
    """Return `$plan` of an execution with the input {}, made by the product's own code from Plan's event in the definition."""
    payload = synthesised.definition["States"]["Plan"]["Arguments"]["Payload"]
    settings = schema.with_run_input(payload["settings"], {})
    # CloudFormation gives the bucket its name.
    stack = StackFacts(**payload["stack"] | {"bucket": "bucket"})
    base_model = choose(settings, stack.region)
    # Plan gets the list of files from the Hub.
    files = {split: [File(f"{split}.csv", 9, None)] for split in ("train", "validation", "test")}
    source = listing.Source(settings.dataset.source, settings.dataset.revision, files, [])
    prices = money.known(stack.region)
    expected = money.expected(settings, prices, stack.region, None, None, bedrock_model=base_model.id)
    estimate = money.estimate(settings, prices, expected, base_model.id, stack.region)
    planned_model = PlannedBaseModel("m", "c" * 40, "mit", False, 1, {})
    dataset = PlannedDataset("d", None, None, None)
    customization = requests.customize(settings, RUN, base_model, stack)
    bedrock = customization.request["baseModelIdentifier"]
    planned = Plan(
        run=RUN,
        name=f"{stack.prefix}-{RUN}",
        warnings=["a"],
        estimate=estimate,
        base_model=planned_model,
        dataset=dataset,
        prepare=preparation(settings, RUN, base_model, stack, source),
        train=requests.train(settings, RUN, None, stack),
        assess=requests.assess(settings, stack),
        customize=customization,
        import_model=requests.import_model(settings, RUN, stack),
        keep_models=settings.bedrock.keep_models,
        deploy=requests.deploy(settings, RUN, stack),
        record=record.begin(
            settings,
            payload["settings"],
            stack,
            RUN,
            CONTEXT["Execution"]["Id"],
            planned_model,
            dataset.licence,
            bedrock,
            estimate,
            prices,
            plan._fleet(settings),
        ),
        register=requests.register(settings, stack, "d", {"base_model": "mit", "dataset": None}, "m@c", "0" * 64),
    )
    return {"plan": as_json(planned), "states": {"context": CONTEXT, "input": {}}}


class Recorder:
    """A client that checks each request against the service model, and keeps it in `sent`."""

    def __init__(self, service: str) -> None:
        self.model = service_model(service)
        self.operations = {xform_name(name): name for name in self.model.operation_names}
        self.sent: dict[str, dict[str, Any]] = {}

    def __getattr__(self, method: str) -> Any:
        def call(**request: Any) -> dict[str, Any]:
            name = self.operations[method]
            validate(self.model.operation_model(name), request)
            self.sent[name] = request
            return {}

        return call


def sent(planned: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the request of a run's operation, as its function makes it. It is checked against the service model."""
    bedrock, sagemaker = Recorder("bedrock"), Recorder("sagemaker")
    training = TrainingJobs.__new__(TrainingJobs)
    training._request, training._client = planned["train"], sagemaker
    training.create(f"{planned['name']}-3")
    customization = CustomizationJobs.__new__(CustomizationJobs)
    customization._request, customization._client = planned["customize"]["request"], bedrock
    customization.create(f"{planned['name']}-3")
    imports = ImportJobs.__new__(ImportJobs)
    imports._request, imports._client = planned["import_model"]["request"], bedrock
    imports._source = {"s3DataSource": {"s3Uri": MODEL}}
    imports.create(f"{planned['name']}-3")
    deploy_custom_model._create(bedrock, CUSTOM_MODEL, planned["customize"]["deployment"])
    deploy._make_config(sagemaker, f"{planned['name']}-3", MODEL, parse(DeployPlan, planned["deploy"]))
    return (sagemaker.sent | bedrock.sent)[name]
