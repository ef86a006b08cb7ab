"""The secret scanner of `make check` and of the commit hook finds secrets, which are made when the test runs."""

from __future__ import annotations

import random
import string
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

ROOT = Path(__file__).resolve().parents[2]
RANDOM = random.Random(7)  # with a seed, because the rules require enough different characters


def scan(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command(), str(file)], cwd=ROOT, capture_output=True, text=True, check=False)


def command() -> list[str]:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    (entry,) = [hook["entry"] for hook in hooks if hook["id"] == "secrets"]
    assert f"{entry.removeprefix('.venv/bin/')}\n" in (ROOT / "Makefile").read_text()  # both run the same command
    return [str(Path(sys.executable).with_name("kingfisher")), *entry.split()[1:]]


def random_text(length: int, letters: str = string.ascii_letters + string.digits) -> str:
    return "".join(RANDOM.choice(letters) for _ in range(length))


def private_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("KEY = '{id}'", "tuneway.aws-access-key-id"),
        ("aws_secret_access_key = '{secret}'", "tuneway.aws-secret-access-key"),
        ('"SecretAccessKey": "{secret}"', "tuneway.aws-secret-access-key"),
        ("run it with {hub} as the token", "betterleaks.huggingface-access-token"),
        ("hub_token: {hub}", "betterleaks.huggingface-access-token"),
        ("hub_token: {newer}", "tuneway.hub-token"),
        ("{pem}", "betterleaks.private-key"),
    ],
)
def test_a_secret_is_found_and_not_shown(tmp_path: Path, line: str, rule: str) -> None:
    secrets = {
        "id": "AKIA" + random_text(16, string.ascii_uppercase + "234567"),
        "secret": random_text(40),
        "hub": "hf_" + random_text(34, string.ascii_letters),
        "newer": "hf_" + random_text(37),
        "pem": private_key(),
    }
    file = tmp_path / "notes.txt"
    file.write_text(line.format(**secrets) + "\n")
    done = scan(file)
    assert done.returncode not in (0, 1), done.stderr  # 1 is the scanner's own failure
    assert rule in done.stdout.lower()
    assert not [value for value in secrets.values() if value in done.stdout + done.stderr]


def test_a_file_without_secrets_passes(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text(
        "hub_token_secret: tuneway/hub-token\naws_secret_access_key='test'\nrevision: " + "6b929ff1" * 5 + "\n"
    )
    done = scan(file)
    assert done.returncode == 0, done.stdout
