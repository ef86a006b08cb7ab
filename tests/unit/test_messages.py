"""Every message about a refusal or a failure in the product's source names a remedy, and only settings that exist.

A message is the text of an exception that a user may see, with {} for each value that is filled in. A new message without a
remedy, or with a setting that the schema does not have, fails here.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline import message as end_message
from pipeline.catalogue import BASE_MODELS
from pipeline.settings import RENAMED, Settings, sections

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("pipeline", "data_prep", "training", "infra", "serving", "report", "cli", "local", "account")

WITH_REMEDY = {
    "SettingsError": "refusals before anything runs",
    "NotAllowed": "refusals of Plan",
    "Refused": "refusals of a dataset",
    "RunError": "errors of make local's command line",
    "AccountLifeError": "errors of make test-account",
    "TrainingError": "failures of a training job",
    "InterruptedTrainingError": "interruptions of a training job",
    "EndpointFailed": "failures of Deploy",
    "EndpointSick": "failures of SmokeTest",
    "BedrockSick": "failures of AskBedrock",
    "ModelDeploymentFailed": "failures of DeployCustomModel",
    "MaxCostReached": "jobs and endpoints that may cost more than max_cost",
    "WrongRegion": "a stack that is in another Region",
    "failure": "checks of doctor that fail",
    "warning": "checks of doctor that warn",
    "NotAnswered": "questions that a served model does not answer",
    "NotOurs": "a job that belongs to somebody else",
    "ShardFailed": "failures of MergeData",
    "aws.AwsRefused": "refusals of AWS about which the product says more than AWS",
}
"""The exceptions whose text is a message for the user, with the remedy. `failure` and `warning` are functions of
`cli.checks.result`."""

EXCEPTIONS = WITH_REMEDY.keys() - {"failure", "warning"}

REMEDY_IN_MESSAGE = {
    "AwsBusy": "the text of botocore",
    "BadRecord": "a defect: the rule that a row breaks",
    "CustomizationFailed": "the text of Bedrock",
    "ModelImportFailed": "the text of Bedrock",
    "ReadBackError": "a defect of the product or of the storage",
    "SourceUnavailable": "the error of the source, after retries",
    "TrainingFailed": "the text of SageMaker, and the job's line",
}
"""The exceptions whose text has no remedy, because the message at the end of a run adds it (`pipeline.message`)."""

NOT_FOR_USERS = {
    "_error": "an error in the form of S3's, which data prep handles as it handles S3's (data_prep.disk_s3)",
    "ContractError": "a defect: two steps do not agree, which the tests of the definition find",
    "Interrupted": "caught and tried again by pipeline.source.stream, whose SourceUnavailable quotes it",
    "TooManyRows": "caught by data_prep.prepare, which refuses",
    "StopIteration": "an exception of Python itself",
    "ValueError": "caught by the parsers; a message only if a validator of the settings raises it (see `messages`)",
    "kind(error)": "AwsBusy, AwsLimit or AwsRefused, with the text of botocore",
    "RuntimeError": "an error of the teardown, which CloudFormation shows",
    "PackageError": "an error of make setup",
    "AssertionError": "a defect",
    "PageTooLarge": "a defect, which tests of the report look for",
}
"""The exceptions that no user sees, or not in a run."""

REMEDY = re.compile(
    r"(?:^|[;:,.(] |\b(?:or|and|then|else|that|meanwhile) )"
    r"(?i:accept|add|ask|call|check|choose|close|compare|compress|correct|create|delete|deploy|do|edit|give|keep|leave|let|load|"
    r"look into|lower|make|mend|name|open|prepare|put|raise|redrive|remove|rename|report|request|restore|reword|run|save|set|"
    r"shorten|sign in|start|stop|store|unset|upload|use|wait|write)\b|"
    r"must be|must hold|needs|allowed( here)?:|is now|did you mean|these are|files are|its own are|the source has|redrive reads"
)
"""A clause that begins with the verb of a remedy, or the words before the allowed or the existing values."""


class Words:
    """The texts of a module's expressions, with {} for each value that the source does not show."""

    def __init__(self, tree: ast.Module) -> None:
        """Collect the values of each name, and the returned values of each function, in a module."""
        self._named: dict[str, list[ast.expr]] = {}
        for node in ast.walk(tree):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self._named.setdefault(name, []).append(value)
                case ast.AugAssign(target=ast.Name(id=name), value=value):
                    self._named.setdefault(name, []).append(value)
                case ast.For(target=ast.Tuple(elts=targets), iter=ast.Name(id=table)):
                    rows = [row for value in self._named.get(table, ()) for row in getattr(value, "elts", ())]
                    for column, target in enumerate(targets):
                        if isinstance(target, ast.Name):
                            self._named.setdefault(target.id, []).extend(
                                row.elts[column] for row in rows if isinstance(row, ast.Tuple)
                            )
                case ast.ImportFrom(module=str(module), names=names) if module.split(".")[0] in PACKAGES:
                    for alias in names:
                        if alias.name.isupper():
                            words = words_of(module).of(ast.Name(alias.name))
                            self._named.setdefault(alias.name, []).append(ast.Constant(words))
                case ast.FunctionDef(name=name):
                    self._named.setdefault(name, []).extend(
                        inner.value
                        for inner in ast.walk(node)
                        if isinstance(inner, ast.Return) and inner.value is not None
                    )

    def of(self, node: ast.expr, depth: int = 4) -> str:
        """Return the text of an expression. Alternatives are separated by |."""
        match node:
            case ast.Constant(value=str(words)):
                return words
            case ast.JoinedStr(values=parts):
                return "".join(self.of(part, depth) for part in parts)
            case ast.FormattedValue(value=value):
                return self.of(value, depth)
            case ast.IfExp(body=body, orelse=orelse):
                return f"{self.of(body, depth)}|{self.of(orelse, depth)}"
            case ast.BinOp(left=left, right=right):
                return self.of(left, depth) + self.of(right, depth)
            case ast.List(elts=parts):
                return ", ".join(self.of(part, depth) for part in parts)
            case ast.Call(func=ast.Attribute(value=value, attr="format")):
                return self.of(value, depth)
            case ast.Call(func=ast.Attribute(attr="join"), args=[ast.Name() as value]):
                return self.of(value, depth)
            case ast.Name(id=name) | ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if (
                depth and name in self._named
            ):
                return "|".join(self.of(value, depth - 1) for value in self._named[name])
            case _:
                return "{}"


@cache
def words_of(module: str) -> Words:
    path = ROOT / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return Words(ast.parse(path.read_text(encoding="utf-8")))


FORWARDED = {
    ("local/run.py: RunError", "execution {}: {}"),
    ("pipeline/settings/loading.py: SettingsError", "execution input: {}"),
    ("local/run.py: RunError", "the model was not served ({}): {}"),
    ("training/unfit_models.py: TrainingError", "training.base_model: {} {}; {}"),
}
"""Messages that contain another message with its remedy: the execution's, or a mistake's (pipeline/settings/mistake.py)."""


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Yield the path and the syntax tree of each file of the product."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def exceptions() -> list[tuple[str, str, str]]:
    """Return file, exception and text of each exception that is raised, or that a function returns so that it is raised."""
    found = []
    for name, tree in trees():
        words = Words(tree)
        for node in ast.walk(tree):
            match node:
                case ast.Raise(exc=ast.Call(func=func, args=args)):
                    kind = ast.unparse(func)
                case ast.Call(func=ast.Name(id="failure" | "warning") as func, args=args) if name.startswith("cli/"):
                    kind = func.id
                case ast.Return(value=ast.Call(func=func, args=args)) if ast.unparse(func) in EXCEPTIONS:
                    kind = ast.unparse(func)
                case ast.Call(func=ast.Name(id="unfit") | ast.Attribute(attr="refuse"), args=args) if args:
                    # About a base model: the last argument is the remedy.
                    found.append((name, "TrainingError", f"; {words.of(args[-1])}"))
                    continue
                case _:
                    continue
            found.append((name, kind, words.of(args[0]) if args else ""))
    return found


def exception_factories() -> set[str]:
    """Return the names of the functions that return an exception with a remedy."""
    return {
        node.name
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.returns is not None and ast.unparse(node.returns) in WITH_REMEDY
    }


def messages() -> list[tuple[str, str]]:
    """Return each message that must contain its remedy, with its place."""
    found = [
        (f"{name}: {kind}", line)
        for name, kind, line in exceptions()
        if kind in WITH_REMEDY or (kind == "ValueError" and name.startswith("pipeline/settings/"))
    ]
    for name, tree in trees():
        if name == "training/errors.py":  # the job's messages about errors of libraries
            explain = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "explain")
            words = Words(tree)
            found += [
                (f"{name}: explain", words.of(node.value))
                for node in ast.walk(explain)
                if isinstance(node, ast.Return) and node.value is not None
            ]
    # The message inside a forwarded one is checked where it is made.
    return [(where, line) for where, line in found if re.search(r"[a-z]{3}", line) and (where, line) not in FORWARDED]


@pytest.mark.parametrize(("where", "line"), messages())
def test_every_refusal_and_failure_names_its_remedy(where: str, line: str) -> None:
    assert REMEDY.search(line), f"{where}: {line}"


def test_every_raised_exception_is_in_one_of_the_tables() -> None:
    known = {*WITH_REMEDY, *REMEDY_IN_MESSAGE, *NOT_FOR_USERS} | exception_factories()
    unknown = {
        (name, kind)
        for name, kind, _ in exceptions()
        if name.split("/")[0] in ("pipeline", "data_prep", "training") and not {kind, kind.rpartition(".")[2]} & known
    }
    assert not unknown


@pytest.mark.parametrize(
    "kind",
    [
        *REMEDY_IN_MESSAGE,
        "EndpointFailed",
        "EndpointSick",
        "BedrockSick",
        "ModelDeploymentFailed",
        "NotOurs",
        "ShardFailed",
        "AwsRefused",
        "AwsLimit",
    ],
)
def test_every_error_that_ends_a_step_has_a_remedy_in_the_message(kind: str) -> None:
    # The error's name alone decides the remedy, except for the errors below, whose text decides it.
    assert end_message.remedy(kind, "x") != end_message.UNKNOWN or kind in (
        "TrainingFailed",
        "SourceUnavailable",
        "ShardFailed",
        "AwsLimit",
    )
    assert REMEDY.search(end_message.remedy(kind, "x"))


@pytest.mark.parametrize("line", [line for where, line in messages() if where.startswith("training/")])
def test_the_message_recommends_a_redrive_of_a_training_job_only_if_its_line_does(line: str) -> None:
    reason = f"training job j Failed: AlgorithmError: {line}, exit code: 1; its log group is g"
    remedy = end_message.remedy("TrainingFailed", reason)
    assert ("start a new execution" in remedy) != ("redrive the execution" in line.lower()), remedy


def leaves(model: type[BaseModel], above: str = "") -> Iterator[str]:
    for name in model.model_fields:
        inner = sections(model).get(name)
        yield f"{above}{name}"
        if inner:
            yield from leaves(inner, f"{above}{name}.")


FIELDS = {*leaves(Settings), *RENAMED}
FIELDS |= {f"bedrock.hyperparameters.{name}" for model in BASE_MODELS.values() for name in model.hyperparameters}
SETTING = re.compile(rf"(?<![\w./$-])({'|'.join(Settings.model_fields)})\.(?!amazonaws)([a-z_]+(?:\.[a-zA-Z_]+)*)")


def named_settings() -> list[tuple[str, str]]:
    """Return every setting that a text of the product names, with the text's file."""
    modules = {f"{path.parent.name}.{path.stem}" for path in map(Path, (name for name, _ in trees()))}
    texts = [
        (name, node.value)
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    texts += [
        (path.name, path.read_text(encoding="utf-8"))
        for path in (ROOT / "README.md", ROOT / "config.yaml", *sorted((ROOT / "docs").glob("*.md")))
    ]
    return sorted(
        {
            (name, found[0])
            for name, words in texts
            for found in SETTING.finditer(words)
            if found[0] not in modules and not any(found[0].startswith(f"{module}.") for module in modules)
        }
    )


@pytest.mark.parametrize(("file", "setting"), named_settings())
def test_every_setting_that_a_text_names_exists(file: str, setting: str) -> None:
    assert setting in FIELDS, file
