"""What a life shows before it begins, and that it destroys what it has made however it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from account import price, run
from account.checks import FreeCheck, policy_check
from account.life import AccountLifeError, LookSeconds
from local import cdk
from pipeline.errors import Refused
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


def test_an_unknown_price_is_said_and_never_zero(settings: Any) -> None:
    found = price.life(settings, "af-south-1", {})
    assert found.total is None
    text = "\n".join(found.lines())
    assert "At most not known dollars" in text
    assert "Not known: the cost of ml.g5.xlarge in af-south-1" in text


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
    with pytest.raises(Refused, match="name a file that exists"):
        run.write_settings(tmp_path / "none.yaml", None, None)


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


def test_a_second_interruption_says_what_is_left_and_how_to_delete_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    life = LifeWithoutAws(KeyboardInterrupt(), KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run.run(life, "off", tmp_path / "r.jsonl", yes=True)
    shown = " ".join(capsys.readouterr().out.split())
    assert "Not destroyed: the stack tuneway-account-test in us-west-2 may still be there" in shown
    assert "aws cloudformation delete-stack --region us-west-2 --stack-name tuneway-account-test" in shown


def test_nothing_is_made_without_an_answer(tmp_path: Path) -> None:
    life = LifeWithoutAws(None)
    with pytest.raises(Refused, match="add --yes"):
        run.run(life, "off", tmp_path / "r.jsonl", yes=False)
    assert life.done == ["checks"]


def test_a_life_without_a_problem_is_well_and_another_is_not(tmp_path: Path) -> None:
    life = LifeWithoutAws(None)
    assert run.run(life, "off", tmp_path / "r.jsonl", yes=True)
    life.problems.append("left after destroy: bucket x")
    assert not run.run(life, "off", tmp_path / "r.jsonl", yes=True)


def test_a_denied_free_check_is_a_line_and_no_end() -> None:
    from botocore.exceptions import ClientError

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
