"""Collects from the syntax trees of the product every line that tells a user about a problem, with {} for what differs."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, NamedTuple

from tests.unit.test_messages import NOT_FOR_USERS, ROOT, Words, trees

if TYPE_CHECKING:
    from collections.abc import Iterator

NOT_PRINTED = {
    # Exceptions without a row, beside those of NOT_FOR_USERS.
    "typer.Exit": "has no text",
    "BadRecord": "a defect, or the reason of a row in rejected.jsonl",
    "ReadBackError": "a defect of the product or of the storage",
    "BadRow": "the reason of a row in rejected.jsonl",
}
PRINTED = {"RuntimeError", "PackageError", "ValueError"}
"""Exceptions of NOT_FOR_USERS that a user may see: the reason of a custom resource, the error of `make setup`, and the mistakes
that a validator of the settings finds."""

RETURNED = {
    # Functions that return lines about problems.
    "data_prep/outputs.py": ("_long_system",),
    "pipeline/money/bounds.py": ("warnings", "wake_warning"),
    "pipeline/bedrock.py": ("call_warnings", "check_import"),
    "pipeline/account.py": ("check_imports", "check_judge"),
    "pipeline/source/listing.py": ("_warnings",),
    "pipeline/promotion.py": ("decide", "_better", "_clearly_better"),
    "pipeline/steps/judge.py": ("handler", "result"),
    "pipeline/steps/assess.py": ("faulty",),
    "pipeline/custom_models.py": ("foreign_uses",),
    "pipeline/steps/teardown.py": ("_registered_models",),
    "pipeline/bedrock_teardown.py": ("import_jobs",),
    "cli/errors.py": ("of_aws",),
    "training/errors.py": ("explain",),
}


class ProblemLine(NamedTuple):
    """A line of the product.

    Attributes:
        file: the file that prints it.
        number: the line's number there.
        kind: the exception's name, if it is the text of one.
        text: the text, whose alternatives are separated by |.
    """

    file: str
    number: int
    kind: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.number}"


def lines() -> list[ProblemLine]:
    """Return the lines of all packages, each text once."""
    found: dict[str, ProblemLine] = {}
    app = ast.parse((ROOT / "app.py").read_text(encoding="utf-8"))
    for file, tree in [*trees(), ("app.py", app)]:
        for number, kind, text in of_module(file, tree):
            if re.search(r"[a-z]{3}", text) and len(text.replace("{}", "").split()) > 1:
                found.setdefault(text, ProblemLine(file, number, kind, text))
    return list(found.values())


def of_module(file: str, tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Yield number, exception and text of each line of a module."""
    words = Words(tree)
    parts: set[int] = set()  # the problems and remedies that stand in the calls of `unfit` and `refuse`
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="unfit") | ast.Attribute(attr="refuse"), args=[*_, problem, remedy]):
                parts.add(id(node))
                yield node.lineno, "TrainingError", f"training.base_model: {{}} {words.of(problem)}; {words.of(remedy)}"
            case ast.Raise(exc=ast.Call(func=func, args=[text, *_]) as call) if id(call) not in parts:
                name = ast.unparse(func).rpartition(".")[2]
                if _is_shown(file, ast.unparse(func)) and name not in ("refuse", "unfit"):
                    yield node.lineno, name, words.of(text)
            case ast.Return(value=ast.Call(func=ast.Name() | ast.Attribute() as func, args=[text, *_])):
                name = ast.unparse(func).rpartition(".")[2]
                if name in ERRORS:
                    yield node.lineno, name, words.of(text)
            case ast.Call(func=ast.Name(id="failure" | "warning"), args=[text, *_]) if file.startswith("cli/"):
                yield node.lineno, "", words.of(text)
            case ast.Call(func=ast.Name(id="tell"), args=[text]):
                yield node.lineno, "", words.of(text)
            case ast.Call(func=ast.Name(id="print"), args=[ast.JoinedStr() as text, *_]) if file.startswith(
                "training/"
            ):
                if "not used" in words.of(text):
                    yield node.lineno, "", words.of(text)
            case ast.keyword(arg="warnings", value=ast.List(elts=[text])):
                yield node.value.lineno, "", words.of(text)
            case ast.JoinedStr() if file.startswith("infra/") and ALARM.fullmatch(words.of(node)):
                yield node.lineno, "", f'ALARM: "{words.of(node)}"'
            case ast.Call(func=func, args=[text, *_]) if _to_the_error_stream(node, ast.unparse(func)):
                yield node.lineno, "", words.of(text)
            case ast.Assign(targets=[ast.Name() | ast.Attribute() as target], value=value) if _is_list(target):
                yield from _strings(value, words)
            case ast.AugAssign(target=target, value=value) if _is_list(target):
                yield from _strings(value, words)
            case ast.Call(func=ast.Attribute(attr="append", value=target), args=[text]) if _is_list(target):
                yield node.lineno, "", words.of(text)
            case ast.FunctionDef(name=name) if name in RETURNED.get(file, ()):
                yield from _strings(node, words)
            case ast.Assign(targets=[ast.Name(id="failed" | "_FAILED")], value=ast.Constant(value=str(text))):
                if file.startswith("infra/"):
                    yield node.lineno, "", _of_jsonata(text)
            case ast.Call(func=ast.Name(id="print") | ast.Attribute(attr="print"), args=[ast.JoinedStr() as text, *_]):
                if file.startswith("account/") and OF_A_LIFE.match(words.of(text)):
                    yield node.lineno, "", re.sub(r"\[/?\w+\]", "", words.of(text))


OF_A_LIFE = re.compile(r"\[red\]|\[bold\]Left|Not (compared|whole)")
"""The beginning of what `make test-account` prints about a problem."""

ALARM = re.compile(r"\{\}-[a-z-]+-(failed|started|errors)")
"""The end of an alarm's name, which stands in the subject of its message."""

ERRORS = {
    "Refused",
    "NotAllowed",
    "SettingsError",
    "TrainingError",
    "InterruptedTrainingError",
    "EndpointFailed",
    "EndpointSick",
    "BedrockSick",
    "ModelDeploymentFailed",
    "MaxCostReached",
    "WrongRegion",
    "NotAnswered",
    "NotOurs",
    "ShardFailed",
    "AwsRefused",
    "SourceUnavailable",
    "CustomizationFailed",
    "ModelImportFailed",
    "TrainingFailed",
}


def _of_jsonata(text: str) -> str:
    """Return the text of a JSONata expression that joins texts and variables."""
    return re.sub(r"' & [$\w.]+( & ')?", "{}", text.removeprefix("{% '")).removesuffix(" %}").rstrip("'")


def _is_shown(file: str, kind: str) -> bool:
    name = kind.rpartition(".")[2]
    if name == "ValueError":
        return file.startswith("pipeline/settings/")
    return name in PRINTED or not {kind, name} & {*NOT_FOR_USERS, *NOT_PRINTED}


def _to_the_error_stream(call: ast.Call, function: str) -> bool:
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    return function == "sys.exit" or keywords.get("err") == "True" or keywords.get("file") == "sys.stderr"


def _is_list(target: ast.expr) -> bool:
    return isinstance(target, (ast.Name, ast.Attribute)) and ast.unparse(target).rpartition(".")[2] == "warnings"


def _strings(node: ast.AST, words: Words) -> Iterator[tuple[int, str, str]]:
    """Yield the texts of a node that are sentences, and not the parts of one."""
    inner: set[int] = {
        id(part)
        for each in ast.walk(node)
        if isinstance(each, (ast.Raise, ast.Call))
        for part in ast.walk(each)
        if isinstance(each, ast.Raise) or getattr(each.func, "attr", "") in ("join", "get", "startswith")
    }
    for each in ast.walk(node):
        if isinstance(each, ast.JoinedStr):
            inner |= {id(part) for part in ast.walk(each) if part is not each}
    docstring = ast.get_docstring(node) if isinstance(node, ast.FunctionDef) else None
    for each in ast.walk(node):
        if id(each) in inner or not isinstance(each, (ast.JoinedStr, ast.Constant)):
            continue
        text = words.of(each)
        if len(text.split()) > 3 and text.split() != (docstring or "").split():
            yield each.lineno, "", text
