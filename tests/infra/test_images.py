"""The pins of training/requirements.txt against the image in which they are installed, by the packages' own metadata."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from sagemaker.core import image_uris

from infra import images
from pipeline.settings import SettingsError
from tests.infra.conftest import ROOT

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesised

LINES = (ROOT / "training" / "requirements.txt").read_text().splitlines()
REQUIREMENTS = [Requirement(line) for line in LINES if line.strip() and not line.startswith("#")]
PINS = {
    canonicalize_name(requirement.name): next(iter(requirement.specifier)).version
    for requirement in REQUIREMENTS
    if requirement.specifier
}
THE_IMAGES_OWN = {"boto3", "protobuf"}
"""Packages without a version: the image has the versions that its own tools need."""


@dataclass(frozen=True)
class Image:
    """The versions in the training image, by its tag."""

    torch: str
    transformers: str
    python: str


@pytest.fixture(scope="session")
def image(synthesised: Synthesised) -> Image:
    uri = synthesised.definition["States"]["Plan"]["Arguments"]["Payload"]["stack"]["training_image"]
    found = re.search(r":([\d.]+)-transformers([\d.]+)-gpu-py3(\d+)-cu\d+", uri)
    assert found, uri
    return Image(found[1], found[2], f"3.{found[3]}")


def test_the_versions_are_read_from_the_tag(image: Image) -> None:
    assert image == Image("2.9.0", "5.3.0", "3.12")


REGIONS = ["af-south-1", "ap-east-2", "cn-north-1", "eu-west-1", "me-west-1", "us-gov-west-1", "us-west-2", "xx-1"]


@pytest.mark.parametrize(
    "kind", ["ml.g4dn.xlarge", "ml.g5.xlarge", "ml.g6e.2xlarge", "ml.p3.2xlarge", "ml.p4d.24xlarge", "ml.p5.48xlarge"]
)
def test_the_images_of_each_region_are_the_sdks_own_for_every_gpu_type(kind: str) -> None:
    resolved = []
    for region in REGIONS:
        try:
            ours = images.Images.of(region)
        except SettingsError as refusal:
            assert str(refusal).startswith(f"stack.region: AWS has no training or vLLM image for {region}; choose one")
            with pytest.raises(ValueError, match=f"Unsupported region: {region}"):
                resolve(region, kind)
        else:
            assert ours == resolve(region, kind)
            resolved.append(region)
    assert resolved == ["af-south-1", "eu-west-1", "us-west-2"]


def resolve(region: str, kind: str) -> images.Images:
    """Return both images as the SDK itself resolves them. vLLM's is the newest."""
    training = image_uris.retrieve(
        framework="huggingface",
        region=region,
        version=images.TRANSFORMERS,
        base_framework_version=f"pytorch{images.PYTORCH}",
        py_version="py312",
        image_scope="training",
        instance_type=kind,
    )
    serving = image_uris.retrieve(framework="vllm", region=region, image_scope="inference", instance_type=kind)
    return images.Images(training, serving)


def test_transformers_is_pinned_to_the_images_own(image: Image) -> None:
    assert PINS["transformers"] == image.transformers


def test_every_pin_is_exact_and_is_the_version_that_the_tests_use() -> None:
    # Otherwise the tests below would read the metadata of another release.
    for requirement in REQUIREMENTS:
        if requirement.name not in THE_IMAGES_OWN:
            assert str(requirement.specifier) == f"=={metadata.version(requirement.name)}", requirement.name
    assert len(PINS) == len(REQUIREMENTS) - len(THE_IMAGES_OWN)


@pytest.mark.parametrize("name", sorted(PINS))
def test_a_pinned_package_takes_the_images_python_torch_and_the_other_pins(name: str, image: Image) -> None:
    pythons = metadata.metadata(name)["Requires-Python"]
    assert SpecifierSet(pythons).contains(f"{image.python}.0")
    there = PINS | {"torch": image.torch}
    for requirement in required(name, image.python):
        version = there.get(canonicalize_name(requirement.name))
        assert version is None or requirement.specifier.contains(version), (
            f"{name} needs {requirement}, and gets {version}"
        )


def test_the_packages_that_need_torch_state_its_version_so_that_the_test_above_can_check_it(image: Image) -> None:
    found = {name for name in PINS for each in required(name, image.python) if each.name == "torch" and each.specifier}
    assert found == {"accelerate", "bitsandbytes", "peft"}


def required(name: str, python: str) -> list[Requirement]:
    """Return what a package requires in the image, without extras."""
    environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux", "extra": ""}
    found = [Requirement(text) for text in metadata.requires(name) or []]
    assert sys.platform == "linux"
    return [each for each in found if each.marker is None or each.marker.evaluate(environment)]
