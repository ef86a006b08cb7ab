"""What a life shows before it begins, and that it destroys what it has made however it ends."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import openai
import pytest
import yaml
from botocore.exceptions import ClientError
from rich.console import Console

from account import price, questions, run
from account.checks import FreeCheck, policy_check
from account.life import AccountLifeError, Life, LookSeconds
from account.recording import AnswerRecorder
from cli import doctor
from cli.checks.result import CheckResult, failure, ok, warning
from cli.context import ConnectedStack
from local import cdk, inventory
from pipeline import money
from pipeline.errors import Refused
from pipeline.money.prices import PriceRow, known
from pipeline.settings import SettingsError
from serving import stack as stacks

if TYPE_CHECKING:
    from pathlib import Path

REGION = "us-west-2"


@pytest.fixture
def settings() -> Any:
    return stacks.load(run.SETTINGS)


def test_the_price_is_the_bound_of_what_aws_itself_ends(settings: Any) -> None:
    found = price.life(settings, REGION, {})
    hour = 1.408
    assert found.main.training == pytest.approx(hour / 2, abs=0.01)  # 30 minutes
    assert found.main.endpoint == pytest.approx(hour * 45 / 60, abs=0.01)  # 30 minutes, and 15 to start
    assert found.total == pytest.approx(2.82, abs=0.03)
    assert found.expected is not None
    assert 1 < found.expected < 2
    assert settings.max_cost is not None
    assert found.main.total is not None
    assert found.main.total <= settings.max_cost
    assert settings.training.max_runtime_minutes <= 30
    assert settings.endpoint.time_to_live_minutes <= 60


def test_the_page_of_the_life_has_the_price_that_the_command_shows(settings: Any) -> None:
    page = (run.ROOT / "docs" / "account.md").read_text(encoding="utf-8")
    assert " ".join(" ".join(price.life(settings, REGION, {}).lines()).split()) in " ".join(page.split())


def test_an_unknown_price_is_said_and_never_zero(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(money, "look_up", lambda region, *_: (money.known(region), "no network"))
    found = price.life(settings, "af-south-1", {})
    assert found.total is None
    text = "\n".join(found.lines())
    assert text.startswith("What it costs at most is not known, before tax: training not known")
    assert "expected" not in text
    assert "Not known: the cost of ml.g5.xlarge in af-south-1" in text


def test_the_price_list_is_asked_for_what_the_table_does_not_have(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def look_up(region: str, types: list[str], _: float) -> Any:
        asked.append((region, types))
        row = PriceRow("ml.g5.xlarge", region, 2.0, 2.0, "2026-11-01", "AWS Price List")
        return known(region, row), None

    monkeypatch.setattr(money, "look_up", look_up)
    found = price.life(settings, "eu-central-1", {})
    assert asked == [("eu-central-1", ["ml.g5.xlarge", "ml.g5.xlarge"])]
    assert found.main.training == 1.0


def test_a_life_whose_main_run_plan_would_refuse_ends_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    life = LifeWithoutAws(None)
    life.settings = life.settings.model_copy(update={"max_cost": 1})
    with pytest.raises(Refused, match=r"max_cost: this run may cost 1\.76 dollars"):
        run.run(life, "off", tmp_path / "r.jsonl", yes=True)
    assert life.done == ["checks"]


def test_bedrock_without_a_known_price_ends_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(money, "look_up", lambda *_: (money.known("af-south-1"), "no network"))
    life = LifeWithoutAws(None)
    with pytest.raises(AccountLifeError, match="is not known, so nothing would bound it"):
        run.run(life, "customize", tmp_path / "r.jsonl", yes=True)
    assert life.done == ["checks"]


@pytest.mark.parametrize("mode", ["customize", "import"])
def test_bedrock_has_a_price_of_its_own(settings: Any, mode: str) -> None:
    given = price.main_input(settings, mode, REGION)
    assert given["bedrock"] == {"mode": mode}
    found = price.life(settings, REGION, given)
    assert found.main.bedrock is not None
    assert found.main.bedrock > 1
    assert found.main.total is not None
    assert given["max_cost"] >= found.main.total
    assert price.main_input(settings, "off", REGION) == {}


def test_the_options_are_laid_over_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "HOME", tmp_path)
    layer = tmp_path / "layer.yaml"
    layer.write_text("training:\n  evaluation:\n    batch_size: 3\n")
    found = yaml.safe_load(run.write_settings(layer, "ml.g6.xlarge", "us-east-1").read_text())
    assert found["training"]["evaluation"] == {"max_new_tokens": 40, "batch_size": 3}
    assert found["training"]["instance_types"] == found["endpoint"]["instance_types"] == "ml.g6.xlarge"
    assert found["stack"] == {"name": "tuneway-account-test", "region": "us-east-1"}


@pytest.mark.parametrize(
    ("text", "line"),
    [(None, "name a settings file that exists"), ("stack: [", "line 1 is not YAML"), ("", "must be a mapping")],
)
def test_a_layer_that_cannot_be_read_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, line: str
) -> None:
    monkeypatch.setattr(run, "HOME", tmp_path / "home")
    layer = tmp_path / "layer.yaml"
    if text is not None:
        layer.write_text(text)
    with pytest.raises(SettingsError, match=line):
        run.write_settings(layer, None, None)
    assert not (tmp_path / "home").exists()


def doctor_finds(monkeypatch: pytest.MonkeyPatch, results: dict[str, CheckResult]) -> None:
    found = doctor.Doctor()
    found.results = results
    monkeypatch.setattr(doctor, "examine", lambda _: found)


WELL = {name: ok("well") for name in (*run.ENDS, "versions")}


@pytest.mark.parametrize(
    "status", ["CREATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "DELETE_FAILED", "CREATE_IN_PROGRESS"]
)
@pytest.mark.parametrize("look", [ok("x"), warning("x; do y"), failure("x; do y")])
def test_a_stack_of_this_name_is_never_deployed_over_nor_destroyed(
    monkeypatch: pytest.MonkeyPatch, status: str, look: CheckResult
) -> None:
    class OneStack:
        """CloudFormation with one stack."""

        def describe_stacks(self, **_: str) -> Any:
            return {"Stacks": [{"StackStatus": status}]}

    doctor_finds(monkeypatch, {**WELL, "stack": look})
    life = run.AccountLife(run.SETTINGS, LookSeconds(0, 0))
    monkeypatch.setattr(life, "_client", lambda _: OneStack())
    with pytest.raises(AccountLifeError, match=rf"already \({status}\).*or else give this life another stack.name"):
        life.free_checks()
    assert not life.deployed


def test_a_check_that_doctor_could_not_make_ends_the_life(monkeypatch: pytest.MonkeyPatch) -> None:
    doctor_finds(
        monkeypatch, {name: ok("well") for name in ("versions", "settings")} | {"credentials": warning("no network")}
    )
    with pytest.raises(AccountLifeError, match="credentials: no network"):
        run.AccountLife(run.SETTINGS, LookSeconds(0, 0)).free_checks()


def test_a_failed_inventory_is_a_problem_and_no_failed_destruction(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def denied(*_: Any) -> Any:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "ListImportedModels")

    monkeypatch.setattr(cdk, "run", lambda *_, **__: None)
    monkeypatch.setattr(inventory, "left", denied)
    life = run.AccountLife(run.SETTINGS, LookSeconds(0, 0))
    life.deployed = True
    run.end(life, tmp_path / "r.jsonl")
    assert not life.deployed
    assert [line[:53] for line in life.problems] == ["the stack is destroyed, but nobody knows what is left"]


def test_a_deployment_that_breaks_off_takes_no_history_of_the_stack_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def breaks_off(command: str, *_: str, **__: Any) -> None:
        if command == "deploy":
            raise KeyboardInterrupt

    monkeypatch.setattr(cdk, "run", breaks_off)
    monkeypatch.setattr(inventory, "left", lambda *_: [])
    life = run.AccountLife(run.SETTINGS, LookSeconds(0, 0))
    life._stack_id = "arn:aws:cloudformation:us-west-2:111122223333:stack/x/1"
    monkeypatch.setattr(life, "_client", lambda _: pytest.fail("no call is needed"))
    with pytest.raises(KeyboardInterrupt):
        life.deploy()
    run.end(life, tmp_path / "r.jsonl")
    assert not life.deployed
    assert life.problems == []


def test_a_failed_history_does_not_say_that_the_stack_is_still_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cdk, "run", lambda *_, **__: None)
    monkeypatch.setattr(inventory, "left", lambda *_: ["bucket x"])
    life = run.AccountLife(run.SETTINGS, LookSeconds(0, 0))
    life.deployed, life._stack_id = True, "arn:x"
    monkeypatch.setattr(life, "_client", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run.end(life, tmp_path / "r.jsonl")
    shown = capsys.readouterr()
    assert "Left after destroy: bucket x" in shown.out
    assert "Not destroyed" not in shown.err


def test_an_endpoint_that_refuses_a_question_is_a_problem_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    def refuses(*_: Any) -> str:
        raise openai.APIError("Connection error.", cast("Any", None), body=None)

    monkeypatch.setattr(questions, "ask", refuses)
    stack = stacks.Stack("s", REGION, "e", "r", "b", "m")
    life = Life(AnswerRecorder(), ConnectedStack(settings, stack), Console(), LookSeconds(0, 0))
    life._ask()
    assert life.problems == ["the endpoint has not answered: Connection error."]


class LifeWithoutAws(run.AccountLife):
    """A life without AWS, whose parts write what they do."""

    def __init__(self, ends: BaseException | None, destroys: BaseException | None = None) -> None:
        """Choose how the life and its destruction end."""
        super().__init__(run.SETTINGS, LookSeconds(0, 0))
        self.region = REGION
        self.done: list[str] = []
        self._ends, self._destroys = ends, destroys
        self.recorder.install = lambda: None  # type: ignore[method-assign]

    def free_checks(self) -> None:
        self.done.append("checks")

    def live(self, run_input: dict[str, Any]) -> None:
        self.done.append("live")
        self.deployed = True
        if self._ends:
            raise self._ends
        self.deployed = False

    def destroy(self, of: str) -> None:
        self.done.append("destroy")
        if self._destroys:
            raise self._destroys
        self.deployed = False


@pytest.mark.parametrize(
    "ends", [KeyboardInterrupt(), AccountLifeError("x; run it again"), cdk.CdkError("x"), ValueError()]
)
def test_whatever_ends_a_life_early_everything_is_destroyed(ends: BaseException, tmp_path: Path) -> None:
    life = LifeWithoutAws(ends)
    with pytest.raises(type(ends)):
        run.run(life, "off", tmp_path / "r.jsonl", yes=True)
    assert life.done == ["checks", "live", "destroy"]
    assert (tmp_path / "r.jsonl").is_file()


def test_everything_is_destroyed_when_nobody_reads_the_output_any_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As Ctrl-C in `make test-account | tee log` ends `tee`, too."""
    reads, writes = os.pipe()

    class UnreadLife(LifeWithoutAws):
        def live(self, run_input: dict[str, Any]) -> None:
            os.close(reads)
            super().live(run_input)

    life = UnreadLife(KeyboardInterrupt())
    with os.fdopen(writes, "w", buffering=1) as stream, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stream)
        with pytest.raises(KeyboardInterrupt):
            run.run(life, "off", tmp_path / "r.jsonl", yes=True)
        with suppress(BrokenPipeError):
            stream.close()
    assert life.done == ["checks", "live", "destroy"]


def test_a_second_interruption_says_what_is_left_and_how_to_delete_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    life = LifeWithoutAws(KeyboardInterrupt(), KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run.run(life, "off", tmp_path / "r.jsonl", yes=True)
    shown = " ".join(capsys.readouterr().err.split())
    assert "Not destroyed: the stack tuneway-account-test in us-west-2 may still be there" in shown
    assert "aws cloudformation delete-stack --region us-west-2 --stack-name tuneway-account-test" in shown


def test_nothing_is_made_without_an_answer(tmp_path: Path) -> None:
    life = LifeWithoutAws(None)
    with pytest.raises(Refused, match="add --yes"):
        run.run(life, "off", tmp_path / "r.jsonl", yes=False)
    assert life.done == ["checks"]


def test_two_lives_do_not_share_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The second would write the settings and the stack anew with which the first is destroyed."""
    monkeypatch.setattr(run, "HOME", tmp_path / "home")
    monkeypatch.setattr(sys, "argv", ["run", "--yes"])
    handled: list[int] = []
    monkeypatch.setattr(signal, "signal", lambda number, _: handled.append(number))
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_DFL)
    with run._only_life(), pytest.raises(SystemExit, match="another `make test-account` runs in this folder"):
        run.main()
    assert not (tmp_path / "home" / "settings.yaml").exists()
    run._only_life().close()
    assert handled == [signal.SIGTERM, signal.SIGHUP]  # a closed terminal, too
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_IGN)  # as `nohup` sets it
    with run._only_life(), pytest.raises(SystemExit):
        run.main()
    assert handled[2:] == [signal.SIGTERM]


def test_a_life_without_a_problem_is_well_and_another_is_not(tmp_path: Path) -> None:
    life = LifeWithoutAws(None)
    assert run.run(life, "off", tmp_path / "r.jsonl", yes=True)
    life.problems.append("left after destroy: bucket x")
    assert not run.run(life, "off", tmp_path / "r.jsonl", yes=True)


def test_a_denied_free_check_is_a_line_and_no_end() -> None:
    class DeniedAnalyzer:
        """Access Analyzer for credentials that may not use it."""

        def get_paginator(self, _: str) -> Any:
            error = {
                "Code": "AccessDeniedException",
                "Message": "not authorized to perform: access-analyzer:ValidatePolicy",
            }
            raise ClientError({"Error": error}, "ValidatePolicy")

    class OnePolicy:
        """One policy."""

        def policies(self) -> Any:
            yield "Role", {}, "IDENTITY_POLICY", None

    found = policy_check(DeniedAnalyzer(), OnePolicy())  # type: ignore[arg-type]
    assert isinstance(found, FreeCheck)
    assert found.problems == []
    assert found.skipped is not None
    assert "allow access-analyzer:ValidatePolicy" in found.skipped
