"""Plan examines a base model, on the Hub over a real connection and in S3 on local AWS, and the GPU memory that it needs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest

from local import tiny_model
from pipeline.contracts.values import as_json
from pipeline.errors import Refused, SourceUnavailable
from pipeline.source import base_model
from pipeline.source.stream import ATTEMPTS
from tests.hub_server import HubAnswer, HubServer
from tests.unit.pipeline.steps.test_plan_parts import settings
from training.base_files import BaseFiles

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.settings import Settings
    from tests.local_aws.conftest import RunningAws

REPO = tiny_model.REPO
ABOUT = f"/api/models/{REPO}/revision/main?blobs=true"
FOLDER = "uploads/models/mine/"


def on_hub(hub: HubServer | str, **training: Any) -> Settings:
    wanted = settings(training={"base_model": REPO, "gated": False} | training)
    url = hub if isinstance(hub, str) else hub.url
    return wanted.model_copy(update={"access": wanted.access.model_copy(update={"hub_endpoint": url})})


def look(hub: HubServer, token: str | None = None, **training: Any) -> base_model.Base:
    return base_model.look(on_hub(hub, **training), "bucket", token, None)


def refusal(hub: HubServer, token: str | None = None, **training: Any) -> str:
    with pytest.raises(Refused) as refused:
        look(hub, token, **training)
    assert "\n" not in str(refused.value)
    assert "hf_secret" not in str(refused.value)
    return str(refused.value)


def described(**changes: Any) -> list[HubAnswer]:
    """Return the Hub's answer for a model, in the form that huggingface_hub's ModelInfo reads."""
    siblings = [{"rfilename": "config.json", "size": 3}, {"rfilename": "original/params.json", "size": 3}]
    return [HubAnswer(body=json.dumps({"sha": "c" * 40, "gated": False, "siblings": siblings} | changes).encode())]


def test_the_header_of_the_weights_is_read_by_two_ranges_at_the_commit(models: HubServer, cache: Path) -> None:
    found = look(models, token="hf_secret")
    assert (found.revision, found.licence, found.gated) == (tiny_model.REVISION, None, False)
    weights = (
        cache / f"models--{REPO.replace('/', '--')}/snapshots/{tiny_model.REVISION}/model.safetensors"
    ).read_bytes()
    end = 8 + int.from_bytes(weights[:8], "little")
    requested = [(seen.path.rpartition("/")[2], seen.range) for seen in models.seen if "safetensors" in seen.path]
    assert requested == [("model.safetensors", "bytes=0-7"), ("model.safetensors", f"bytes=8-{end - 1}")]
    assert all(seen.path == ABOUT or f"/resolve/{tiny_model.REVISION}/" in seen.path for seen in models.seen)
    assert {seen.authorization for seen in models.seen} == {"Bearer hf_secret"}


def test_a_mirror_that_ignores_ranges_gives_the_same_result(models: HubServer, cache: Path) -> None:
    file = f"{REPO}/resolve/{tiny_model.REVISION}/model.safetensors"
    weights = cache / f"models--{REPO.replace('/', '--')}/snapshots/{tiny_model.REVISION}/model.safetensors"
    expected = look(models)
    models.answers[f"/{file}"] = [HubAnswer(body=weights.read_bytes(), ranges=False)]
    assert look(models) == expected


def test_the_files_are_judged_by_the_settings(models: HubServer) -> None:
    assert "v_porj is not a linear layer" in refusal(models, lora={"target_modules": ["v_porj"]})
    look(models, lora={"target_modules": "all-linear"})
    wanted = on_hub(models)
    served = wanted.model_copy(update={"endpoint": wanted.endpoint.model_copy(update={"max_model_len": 2049})})
    with pytest.raises(Refused, match=r"^endpoint.max_model_len: 2049 is more than the 2048 tokens that"):
        base_model.look(served, "bucket", None, None)
    unserved = served.model_copy(update={"endpoint": served.endpoint.model_copy(update={"enabled": False})})
    base_model.look(unserved, "bucket", None, None)


def test_a_gated_model_needs_the_setting_and_a_token_that_may_read_it(models: HubServer) -> None:
    models.answers[ABOUT] = described(gated="manual", cardData={"license": "llama3.2"})
    assert refusal(models) == (
        f"training.gated: {REPO} is gated; accept its licence at {models.url}/{REPO}, and set training.gated to true, so that "
        "it is read with the Hub token (docs/deploy.md: The Hub token)"
    )
    models.answers[f"/{REPO}/resolve/{'c' * 40}/config.json"] = [HubAnswer(403)]
    models.answers[ABOUT] = described(gated="manual", siblings=[{"rfilename": "config.json", "size": 3}])
    assert "has no model.safetensors and no" in refusal(models, "hf_secret", gated=True)
    weights = [{"rfilename": name, "size": 3} for name in ("config.json", "model.safetensors")]
    models.answers[ABOUT] = described(gated="manual", siblings=weights)
    assert refusal(models, "hf_secret", gated=True) == (
        f"training.base_model: {REPO}: this token may not read it (403); accept the terms at {models.url}/{REPO} with the "
        "token's account, and let a fine-grained token read gated repositories"
    )


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ({"license": "apache-2.0"}, "apache-2.0"),
        ({"license": "other", "license_name": "qwen-research"}, "qwen-research"),
        ({"license": ["mit", "cc-by-4.0"]}, "mit, cc-by-4.0"),
        ({"license": "other"}, "other"),
        (None, None),
    ],
)
def test_the_licence_is_that_of_the_card(models: HubServer, card: Any, licence: str | None) -> None:
    with urlopen(models.url + ABOUT) as answer:
        description = json.loads(answer.read())
    models.answers[ABOUT] = [HubAnswer(body=json.dumps(description | {"cardData": card}).encode())]
    assert look(models).licence == licence


@pytest.mark.parametrize(
    ("answer", "token", "expected"),
    [
        (
            HubAnswer(401),
            None,
            "the Hub requires a token (401): the model is gated or private, or does not exist; check ",
        ),
        (
            HubAnswer(401),
            "hf_secret",
            "the Hub refused the token (401); put a valid one into the secret, and check that",
        ),
        (
            HubAnswer(404, headers={"X-Error-Code": "RepoNotFound"}),
            None,
            "there is no such model (404); check the name at ",
        ),
        (
            HubAnswer(404, headers={"X-Error-Code": "RevisionNotFound"}),
            None,
            "it has no revision 'main' (404); set training.base_revision to a commit of ",
        ),
        (HubAnswer(418), None, "the Hub answered 418; open "),
    ],
)
def test_an_error_of_the_hub_is_refused_with_its_reason(
    models: HubServer, answer: HubAnswer, token: str | None, expected: str
) -> None:
    models.answers[ABOUT] = [answer]
    line = refusal(models, token)
    assert line.startswith(f"training.base_model: {REPO}: {expected}")
    assert len(models.seen) == 1
    if answer.status == 401 and token is None:
        assert (
            f"{models.url}/{REPO}, accept its terms there and set training.gated to true (docs/deploy.md: The Hub token)"
            in line
        )


def test_a_server_that_does_not_answer_like_the_hub_is_refused(models: HubServer) -> None:
    models.answers[ABOUT] = [HubAnswer(body=b"<html>")]
    assert "access.hub_endpoint: " in refusal(models)
    models.answers[ABOUT] = described(siblings=[{"rfilename": "config.json"}])
    assert "does not answer like the Hub's API (KeyError('size')); name the Hub or a mirror" in refusal(models)


def test_a_hub_out_of_reach_is_tried_again_and_then_an_error(models: HubServer) -> None:
    weights = f"/{REPO}/resolve/{tiny_model.REVISION}/model.safetensors"
    models.answers[weights] = [HubAnswer(503)]
    with pytest.raises(SourceUnavailable, match=rf"{REPO}, model.safetensors: the Hub answered 503; gave up after 5"):
        look(models)
    assert len([seen for seen in models.seen if seen.path == weights]) == ATTEMPTS
    with pytest.raises(SourceUnavailable, match=r"127.0.0.1:1 cannot be reached .*; gave up after 5 tries"):
        base_model.look(on_hub("http://127.0.0.1:1"), "bucket", None, None)


def test_an_upload_is_read_from_the_bucket(aws: RunningAws, bucket: str, cache: Path) -> None:
    wanted = settings(training={"base_model": FOLDER, "gated": False})
    with pytest.raises(
        Refused, match=rf"^training.base_model: there is nothing in s3://{bucket}/{FOLDER}; upload there the files"
    ):
        base_model.look(wanted, bucket, None, aws.client("s3"))
    snapshot = cache / f"models--{REPO.replace('/', '--')}/snapshots/{tiny_model.REVISION}"
    for path in snapshot.iterdir():
        aws.client("s3").put_object(Bucket=bucket, Key=FOLDER + path.name, Body=path.read_bytes())
    aws.client("s3").put_object(Bucket=bucket, Key=f"{FOLDER}original/config.json", Body=b"{}")
    found = base_model.look(wanted, bucket, None, aws.client("s3"))
    assert (found.revision, found.licence, found.gated) == (None, None, None)
    assert found.files.parameters > 0
    aws.client("s3").delete_object(Bucket=bucket, Key=f"{FOLDER}tokenizer.json")
    with pytest.raises(Refused, match=rf"^training.base_model: {FOLDER} has no tokenizer that transformers reads"):
        base_model.look(wanted, bucket, None, aws.client("s3"))


def llama(billions: float, vocabulary: float = 0.5, cache_bytes: int = 131_072, adapted: int = 400_000) -> BaseFiles:
    """Return the facts of a base model's files, with its parameters and those of its vocabulary in billions."""
    return BaseFiles(int(billions * 1e9), int(vocabulary * 1e9), adapted, cache_bytes, [])


G5, G6E, P4D, G4DN = "ml.g5.xlarge", "ml.g6e.xlarge", "ml.p4d.24xlarge", "ml.g4dn.xlarge"


@pytest.mark.parametrize(
    ("files", "training"),
    [
        (llama(1.24, 0.26), {}),  # Llama 3.2 1B, the default
        (llama(8.03, 1.05), {}),  # Llama 3.1 8B in 4 bit
        (llama(8.03, 1.05), {"quantization": "none"}),
        (llama(7.24), {"instance_types": G4DN}),  # Mistral 7B on a T4: 14.5 of 16.1 GB
    ],
)
def test_a_model_that_fits_into_memory_is_accepted(files: BaseFiles, training: dict[str, Any]) -> None:
    wanted = settings(training=training, endpoint={"max_model_len": 2048})
    same, bounds, warnings = base_model.within_memory(wanted, files)
    assert (same, warnings) == (wanted, [])
    assert bounds["training"].needs == pytest.approx(files.parameters * 2 / 1e9, abs=0.1)


def test_a_model_that_is_too_large_is_refused_with_a_type_that_is_large_enough() -> None:
    def message(files: BaseFiles, **sections: Any) -> str:
        with pytest.raises(Refused) as refused:
            base_model.within_memory(settings(**sections), files)
        return str(refused.value)

    # The base model is judged in 16 bits, also if it is trained in 4.
    assert message(llama(14.8)) == (
        "training.instance_types: meta-llama/Llama-3.2-1B-Instruct needs 29.6 GB of one GPU's memory to train and judge, and "
        "ml.g5.xlarge has 24.16; choose a type with a larger GPU, such as one of ml.g7 (RTX PRO 4500 Blackwell, 34.36 GB), or "
        "a smaller base_model"
    )
    assert message(llama(70.6), training={"instance_types": [G5, P4D]}).endswith(
        "and ml.g5.xlarge has 24.16, ml.p4d.24xlarge has 42.95; choose a type with a larger GPU, such as one of ml.p5e (H200, "
        "151.4 GB), or a smaller base_model"
    )
    assert message(llama(405)).endswith("ml.g5.xlarge has 24.16; choose a smaller base_model")
    # Training needs more memory than judging if an unquantized model has an adapter of a high rank on all layers.
    wide = {"lora": {"r": 256, "target_modules": "all-linear"}, "quantization": "none", "optimizer": "adamw_torch"}
    assert "needs 24.87 GB of one GPU's memory to train" in message(llama(8.03, adapted=2_150_000), training=wide)
    # The model has 16.06 GB. The cache has 131,072 tokens of 131,072 bytes. vLLM uses 92% of the memory.
    assert message(llama(8.03), endpoint={"max_model_len": 131_072}).startswith(
        "endpoint.instance_types: meta-llama/Llama-3.2-1B-Instruct needs 33.24 GB of one GPU's memory to serve with "
        "endpoint.max_model_len 131072, and ml.g5.xlarge has 22.23; choose a type with a larger GPU, such as one of ml.g6e"
    )


def test_types_of_a_list_that_are_too_small_are_left_out_with_a_warning() -> None:
    wanted = settings(training={"instance_types": [G5, G6E]}, endpoint={"instance_types": [G6E, G4DN, "ml.g9.xlarge"]})
    used, bounds, warnings = base_model.within_memory(wanted, llama(14.8))
    assert (used.training.instance_types, used.endpoint.instance_types) == ([G6E], [G6E, "ml.g9.xlarge"])
    assert as_json(bounds) == {
        "training": {"needs": 29.6, "has": {G5: 24.16, G6E: 48.32}},
        "endpoint": {"needs": 29.87, "has": {G6E: 44.45, G4DN: 14.82, "ml.g9.xlarge": None}},
    }
    name = "meta-llama/Llama-3.2-1B-Instruct"
    assert warnings == [
        f"training.instance_types: {name} needs 29.6 GB of one GPU's memory to train and judge, and {G5} has 24.16: this type "
        "is left out",
        f"endpoint.instance_types: {name} needs 29.87 GB of one GPU's memory to serve with endpoint.max_model_len 2048, and "
        f"{G4DN} has 14.82: this type is left out",
        "endpoint.instance_types: the GPU memory of ml.g9.xlarge is not known here, so it was not checked whether the "
        "model fits",
    ]


def test_a_job_on_a_cpu_and_a_disabled_endpoint_have_no_bound() -> None:
    wanted = settings(training={"device": "cpu"}, endpoint={"enabled": False})
    assert base_model.within_memory(wanted, llama(405)) == (wanted, {}, [])
