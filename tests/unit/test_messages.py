"""Every refusal and failure of the product, found in its source: each names a remedy, and no setting that does not exist.

A line is what a `raise` hands to one of the exceptions that a user meets, with {} for what is filled in. A new one that names
no remedy, or a setting that the schema does not have, fails here.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline import report
from pipeline.catalogue import BASE_MODELS
from pipeline.settings import RENAMED, Settings, sections

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("pipeline", "data_prep", "training", "infra", "local")

LINES = {
    "SettingsError": "a refusal before anything runs",
    "NotAllowed": "Plan's",
    "Refused": "of a dataset",
    "RunError": "of make local's command line",
    "TrainingError": "a training job's end",
    "InterruptedTrainingError": "a training job's end",
    "EndpointFailed": "Deploy's",
    "EndpointSick": "SmokeTest's",
    "NotOurs": "of a job that is somebody else's",
    "ShardFailed": "MergeData's",
    "aws.AwsRefused": "of AWS, where the product says more than AWS does",
}
"""The exceptions whose text is a line that a user reads, with its remedy."""

MAILED = {
    "AwsBusy": "botocore's own words",
    "BadRecord": "a defect: the rule that a line breaks",
    "CustomizationFailed": "Bedrock's own words",
    "ReadBackError": "a defect, or the storage's",
    "SourceUnavailable": "the source's own words, after retries",
    "TrainingFailed": "SageMaker's own words, and the job's line",
}
"""Those whose remedy is the message's at the end of a run (`pipeline.report`)."""

INNER = {
    "ContractError": "a defect of two steps that do not agree, which the tests of the definition find",
    "Interrupted": "caught and tried again by pipeline.source.stream, whose SourceUnavailable quotes it",
    "TooManyRows": "caught by data_prep.prepare, which refuses",
    "StopIteration": "Python's own",
    "ValueError": "caught by whoever parses; of the schema's validators it is a line, see below",
    "kind(error)": "AwsBusy, AwsLimit or AwsRefused, with botocore's words",
    "RuntimeError": "the teardown's, which CloudFormation shows",
    "PackageError": "make setup's",
    "AssertionError": "a defect",
}
"""Those that no user meets, or not of a run."""

REMEDY = re.compile(
    r"(?:^|[;:,.(] |\b(?:or|and|then|else|that|meanwhile) )"
    r"(?i:accept|add|call|check|choose|close|compare|compress|correct|create|delete|deploy|do|edit|give|keep|leave|let|load|"
    r"look into|lower|make|mend|name|open|prepare|put|raise|redrive|remove|rename|report|request|restore|reword|run|save|set|"
    r"shorten|start|stop|store|unset|upload|use|write)\b|"
    r"must be|must hold|needs|allowed( here)?:|is now|did you mean|these are|files are|its own are|the source has|redrive reads"
)
"""A clause that begins with the verb of a remedy, or the words before what is allowed or what there is."""


class Words:
    """The words of the product's texts, {} for what is filled in and cannot be told from the source."""

    def __init__(self, tree: ast.Module) -> None:
        """Remember what each name and each function of a module stands for."""
        self._named: dict[str, list[ast.expr]] = {}
        for node in ast.walk(tree):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self._named.setdefault(name, []).append(value)
                case ast.AugAssign(target=ast.Name(id=name), value=value):
                    self._named.setdefault(name, []).append(value)
                case ast.For(target=ast.Tuple(elts=targets), iter=ast.Name(id=table)):
                    rows = [row for value in self._named.get(table, ()) for row in getattr(value, "elts", ())]
                    for place, target in enumerate(targets):
                        if isinstance(target, ast.Name):
                            self._named.setdefault(target.id, []).extend(
                                row.elts[place] for row in rows if isinstance(row, ast.Tuple)
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

    def of(self, node: ast.expr, deep: int = 4) -> str:
        """The words of an expression; of alternatives, all."""
        match node:
            case ast.Constant(value=str(words)):
                return words
            case ast.JoinedStr(values=parts):
                return "".join(self.of(part, deep) for part in parts)
            case ast.FormattedValue(value=value):
                return self.of(value, deep)
            case ast.IfExp(body=body, orelse=orelse):
                return f"{self.of(body, deep)}|{self.of(orelse, deep)}"
            case ast.BinOp(left=left, right=right):
                return self.of(left, deep) + self.of(right, deep)
            case ast.List(elts=parts):
                return ", ".join(self.of(part, deep) for part in parts)
            case ast.Call(func=ast.Attribute(value=value, attr="format")):
                return self.of(value, deep)
            case ast.Call(func=ast.Attribute(attr="join"), args=[ast.Name() as value]):
                return self.of(value, deep)
            case ast.Name(id=name) | ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if (
                deep and name in self._named
            ):
                return "|".join(self.of(value, deep - 1) for value in self._named[name])
            case _:
                return "{}"


@cache
def words_of(module: str) -> Words:
    path = ROOT / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return Words(ast.parse(path.read_text(encoding="utf-8")))


HANDED_ON = {
    ("local/run.py: RunError", "execution {}: {}: {}|{}|{}"),
    ("pipeline/settings/loading.py: SettingsError", "execution input: {}"),
    ("local/run.py: RunError", "the model was not served ({}): {}"),
    ("training/unfit_models.py: TrainingError", "training.base_model: {} {}; {}"),
}
"""Reasons of the execution's, with the remedy that these have, and the schema's mistakes (pipeline/settings/mistake.py)."""


def trees() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def raised() -> list[tuple[str, str, str]]:
    """File, exception and line of everything that is raised, and of every exception that a function returns to be raised."""
    found = []
    for name, tree in trees():
        words = Words(tree)
        for node in ast.walk(tree):
            match node:
                case ast.Raise(exc=ast.Call(func=func, args=args)):
                    kind = ast.unparse(func)
                case ast.Return(value=ast.Call(func=func, args=args)) if ast.unparse(func) in LINES:
                    kind = ast.unparse(func)
                case ast.Call(func=ast.Name(id="unfit") | ast.Attribute(attr="refuse"), args=args) if args:
                    # Of a base model: what is wrong and, last, the remedy.
                    found.append((name, "TrainingError", f"; {words.of(args[-1])}"))
                    continue
                case _:
                    continue
            found.append((name, kind, words.of(args[0]) if args else ""))
    return found


def makers() -> set[str]:
    """The functions that return such an exception."""
    return {
        node.name
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.returns is not None and ast.unparse(node.returns) in LINES
    }


def lines() -> list[tuple[str, str]]:
    """Each line that needs its remedy in itself."""
    found = [
        (f"{name}: {kind}", line)
        for name, kind, line in raised()
        if kind in LINES or (kind == "ValueError" and name.startswith("pipeline/settings/"))
    ]
    for name, tree in trees():
        if name == "training/errors.py":  # what the job makes of a library's error
            explain = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "explain")
            words = Words(tree)
            found += [
                (f"{name}: explain", words.of(node.value))
                for node in ast.walk(explain)
                if isinstance(node, ast.Return) and node.value is not None
            ]
    # What is handed on as a whole was looked at where it is made.
    return [(where, line) for where, line in found if re.search(r"[a-z]{3}", line) and (where, line) not in HANDED_ON]


@pytest.mark.parametrize(("where", "line"), lines())
def test_every_refusal_and_failure_names_its_remedy(where: str, line: str) -> None:
    assert REMEDY.search(line), f"{where}: {line}"


def test_whatever_is_raised_is_one_of_those_that_a_user_meets_or_not() -> None:
    known = {*LINES, *MAILED, *INNER} | makers()
    strange = {
        (name, kind)
        for name, kind, _ in raised()
        if name.split("/")[0] in ("pipeline", "data_prep", "training") and not {kind, kind.rpartition(".")[2]} & known
    }
    assert not strange


@pytest.mark.parametrize(
    "kind", [*MAILED, "EndpointFailed", "EndpointSick", "NotOurs", "ShardFailed", "AwsRefused", "AwsLimit"]
)
def test_what_ends_a_step_has_a_remedy_in_the_mail(kind: str) -> None:
    # The error's own name is enough, but for those that are told by what SageMaker or Bedrock says.
    assert report.remedy(kind, "x") != report.UNKNOWN or kind in (
        "TrainingFailed",
        "SourceUnavailable",
        "ShardFailed",
        "AwsLimit",
    )
    assert REMEDY.search(report.remedy(kind, "x"))


@pytest.mark.parametrize("line", [line for where, line in lines() if where.startswith("training/")])
def test_a_training_job_is_redriven_only_where_its_line_says_so(line: str) -> None:
    reason = f"training job j Failed: AlgorithmError: {line}, exit code: 1; its log group is g"
    remedy = report.remedy("TrainingFailed", reason)
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


def named() -> list[tuple[str, str]]:
    """Every setting that a text of the product names, with its place."""
    modules = {f"{path.parent.name}.{path.stem}" for path in map(Path, (name for name, _ in trees()))}
    places = [
        (name, node.value)
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    places += [
        (path.name, path.read_text(encoding="utf-8"))
        for path in (ROOT / "README.md", ROOT / "config.yaml", *sorted((ROOT / "docs").glob("*.md")))
    ]
    return sorted(
        {
            (name, found[0])
            for name, words in places
            for found in SETTING.finditer(words)
            if found[0] not in modules and not any(found[0].startswith(f"{module}.") for module in modules)
        }
    )


@pytest.mark.parametrize(("place", "setting"), named())
def test_every_setting_that_a_text_names_exists(place: str, setting: str) -> None:
    assert setting in FIELDS, place
