"""IAM of local AWS checks Bedrock's calls on the actions, resources and condition keys that AWS documents."""

from __future__ import annotations

import pytest

from local_aws.core.authorization import ApiCall, resource_checks
from tests.local_aws.conftest import ACCOUNT, REGION
from tests.local_aws.core.test_authorization import api_call

BEDROCK = f"arn:aws:bedrock:{REGION}:{ACCOUNT}"
OF_THE_PROFILE = [
    ("bedrock:InvokeModel", f"arn:aws:bedrock:{region}::foundation-model/a.b-v1:0")
    for region in ("us-east-1", "us-east-2", "us-west-2")
]


@pytest.mark.parametrize(
    ("call", "action", "expected"),
    [
        (
            api_call("bedrock", {"baseModelIdentifier": "meta.llama3-3-70b-instruct-v1:0:128k", "jobName": "j"}),
            "bedrock:CreateModelCustomizationJob",
            [
                (
                    "bedrock:CreateModelCustomizationJob",
                    f"arn:aws:bedrock:{REGION}::foundation-model/meta.llama3-3-70b-instruct-v1:0:128k",
                ),
                ("bedrock:CreateModelCustomizationJob", f"{BEDROCK}:custom-model/*"),
                ("bedrock:CreateModelCustomizationJob", f"{BEDROCK}:model-customization-job/*"),
            ],
        ),
        (
            api_call("bedrock", {"baseModelIdentifier": "a.b", "jobTags": [{"key": "k", "value": "v"}]}),
            "bedrock:CreateModelCustomizationJob",
            [
                ("bedrock:CreateModelCustomizationJob", f"arn:aws:bedrock:{REGION}::foundation-model/a.b"),
                ("bedrock:CreateModelCustomizationJob", f"{BEDROCK}:custom-model/*"),
                ("bedrock:CreateModelCustomizationJob", f"{BEDROCK}:model-customization-job/*"),
                ("bedrock:TagResource", f"{BEDROCK}:model-customization-job/*"),
            ],
        ),
        (
            api_call("bedrock", {"baseModelIdentifier": "a.b", "customModelTags": [{"key": "k", "value": "v"}]}),
            "bedrock:CreateModelCustomizationJob",
            [
                ("bedrock:CreateModelCustomizationJob", f"arn:aws:bedrock:{REGION}::foundation-model/a.b"),
                ("bedrock:CreateModelCustomizationJob", f"{BEDROCK}:custom-model/*"),
                ("bedrock:CreateModelCustomizationJob", f"{BEDROCK}:model-customization-job/*"),
                ("bedrock:TagResource", f"{BEDROCK}:custom-model/*"),
            ],
        ),
        (
            api_call("bedrock", {"modelArn": f"{BEDROCK}:custom-model/a.b/1", "tags": [{"key": "k", "value": "v"}]}),
            "bedrock:CreateCustomModelDeployment",
            [
                ("bedrock:CreateCustomModelDeployment", f"{BEDROCK}:custom-model/a.b/1"),
                ("bedrock:TagResource", f"{BEDROCK}:custom-model-deployment/*"),
            ],
        ),
        (
            api_call(
                "bedrock", path=f"/model-customization/custom-model-deployments/{BEDROCK}:custom-model-deployment/1"
            ),
            "bedrock:DeleteCustomModelDeployment",
            [("bedrock:DeleteCustomModelDeployment", f"{BEDROCK}:custom-model-deployment/1")],
        ),
        (
            api_call("bedrock", path="/model-customization/custom-model-deployments", modelArnEquals=f"{BEDROCK}:x"),
            "bedrock:ListCustomModelDeployments",
            [("bedrock:ListCustomModelDeployments", "*")],
        ),
        (
            api_call("bedrock", {"modelId": "tuned", "tags": [{"key": "k", "value": "v"}]}),
            "bedrock:CreateProvisionedModelThroughput",
            [
                ("bedrock:CreateProvisionedModelThroughput", f"{BEDROCK}:custom-model/tuned"),
                ("bedrock:TagResource", f"{BEDROCK}:provisioned-model/*"),
            ],
        ),
        (
            api_call("bedrock", {"modelId": "a.b:0"}),
            "bedrock:CreateProvisionedModelThroughput",
            [("bedrock:CreateProvisionedModelThroughput", f"arn:aws:bedrock:{REGION}::foundation-model/a.b:0")],
        ),
        (
            api_call("bedrock", path="/provisioned-model-throughput/1"),
            "bedrock:DeleteProvisionedModelThroughput",
            [("bedrock:DeleteProvisionedModelThroughput", f"{BEDROCK}:provisioned-model/1")],
        ),
        (
            api_call("bedrock", {"importedModelName": "m", "importedModelTags": [{"key": "k", "value": "v"}]}),
            "bedrock:CreateModelImportJob",
            [("bedrock:CreateModelImportJob", "*"), ("bedrock:TagResource", f"{BEDROCK}:imported-model/*")],
        ),
        (
            api_call("bedrock", path="/imported-models/m"),
            "bedrock:DeleteImportedModel",
            [("bedrock:DeleteImportedModel", f"{BEDROCK}:imported-model/m")],
        ),
        (
            api_call("bedrock", path="/imported-models/m"),
            "bedrock:GetImportedModel",
            [("bedrock:GetImportedModel", f"{BEDROCK}:imported-model/m")],
        ),
        (
            api_call("bedrock", path=f"/model-import-jobs/{BEDROCK}:model-import-job/1"),
            "bedrock:GetModelImportJob",
            [("bedrock:GetModelImportJob", f"{BEDROCK}:model-import-job/1")],
        ),
        (
            api_call(
                "bedrock",
                {"modelArn": f"{BEDROCK}:custom-model/a.b/1"},
                path="/model-customization/custom-model-deployments/d",
            ),
            "bedrock:UpdateCustomModelDeployment",
            [
                ("bedrock:UpdateCustomModelDeployment", f"{BEDROCK}:custom-model-deployment/d"),
                ("bedrock:UpdateCustomModelDeployment", f"{BEDROCK}:custom-model/a.b/1"),
            ],
        ),
        (
            api_call("bedrock-runtime", {"messages": []}, path=f"/model/{BEDROCK}:imported-model/1/converse"),
            "bedrock:Converse",
            [("bedrock:InvokeModel", f"{BEDROCK}:imported-model/1")],
        ),
        (
            api_call("bedrock-runtime", path=f"/model/{BEDROCK}:custom-model-deployment/1/converse-stream"),
            "bedrock:ConverseStream",
            [("bedrock:InvokeModelWithResponseStream", f"{BEDROCK}:custom-model-deployment/1")],
        ),
        (
            api_call("bedrock-runtime", {"modelId": "hidden"}, path="/model/a.b-v1%3A0/invoke"),
            "bedrock:InvokeModel",
            [("bedrock:InvokeModel", f"arn:aws:bedrock:{REGION}::foundation-model/a.b-v1:0")],
        ),
        (
            api_call("bedrock-runtime", path="/model/us.a.b-v1%3A0/converse"),
            "bedrock:Converse",
            [("bedrock:InvokeModel", f"{BEDROCK}:inference-profile/us.a.b-v1:0"), *OF_THE_PROFILE],
        ),
        (
            api_call("bedrock-runtime", path=f"/model/{BEDROCK}:inference-profile%2Fus.a.b-v1%3A0/converse"),
            "bedrock:Converse",
            [("bedrock:InvokeModel", f"{BEDROCK}:inference-profile/us.a.b-v1:0"), *OF_THE_PROFILE],
        ),
        (
            api_call("bedrock", path="/foundation-models/amazon.nova-micro-v1%3A0%3A128k"),
            "bedrock:GetFoundationModel",
            [
                (
                    "bedrock:GetFoundationModel",
                    f"arn:aws:bedrock:{REGION}::foundation-model/amazon.nova-micro-v1:0:128k",
                )
            ],
        ),
        (
            api_call("bedrock", path=f"/model-customization-jobs/{BEDROCK}:model-customization-job/x/stop"),
            "bedrock:StopModelCustomizationJob",
            [("bedrock:StopModelCustomizationJob", f"{BEDROCK}:model-customization-job/x")],
        ),
    ],
)
def test_a_call_of_bedrock_is_checked_on_its_documented_resources(
    call: ApiCall, action: str, expected: list[tuple[str, str]]
) -> None:
    checks = resource_checks(call, action)
    assert checks is not None
    assert [(check.action, check.resource) for check in checks] == expected


def test_the_tags_of_each_resource_are_checked_on_that_resource_alone() -> None:
    tags = {name: [{"key": name, "value": "v"}] for name in ("customModelTags", "jobTags")}
    checks = resource_checks(api_call("bedrock", tags), "bedrock:CreateModelCustomizationJob")
    assert checks is not None
    assert [(c.resource, c.context["aws:TagKeys"]) for c in checks if c.action == "bedrock:TagResource"] == [
        (f"{BEDROCK}:custom-model/*", ["customModelTags"]),
        (f"{BEDROCK}:model-customization-job/*", ["jobTags"]),
    ]
