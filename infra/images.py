"""The container images: AWS Deep Learning Containers, resolved offline by the SageMaker SDK's own tables."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.settings import SettingsError

TRANSFORMERS = "5.3.0"
"""Version of transformers in the training image; training/requirements.txt pins the same."""

PYTORCH = "2.9.0"

_GPU = "ml.g5.xlarge"
"""Both images exist for GPUs alone, so this stands for every instance type, also for a job on CPUs (training.device: cpu)."""


@dataclass(frozen=True)
class Images:
    """Image URIs, and the account and region that own their repositories: one each, whichever type of a list is taken."""

    training: str
    serving: str

    @classmethod
    def of(cls, region: str) -> Images:
        """Resolve both images for `region`.

        Raises:
            SettingsError: AWS has no such image there.
        """
        from sagemaker.core import image_uris  # seconds to import: only synth needs it

        try:
            training = image_uris.retrieve(
                framework="huggingface",
                region=region,
                version=TRANSFORMERS,
                base_framework_version=f"pytorch{PYTORCH}",
                py_version="py312",
                image_scope="training",
                instance_type=_GPU,
            )
            serving = image_uris.retrieve(framework="vllm", region=region, image_scope="inference", instance_type=_GPU)
        except (ValueError, KeyError) as error:
            raise SettingsError(
                f"stack.region: AWS has no training or vLLM image for {region} ({error}); choose another region"
            ) from error
        return cls(training, serving)

    @staticmethod
    def repository(uri: str) -> tuple[str, str]:
        """Account and repository name of an image URI, for the policies of the roles that pull it."""
        host, _, rest = uri.partition("/")
        return host.split(".")[0], rest.partition(":")[0]
