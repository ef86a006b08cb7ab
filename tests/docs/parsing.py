"""Parses the commands of the pages by the real programs: typer's app, the Makefile, the CDK CLI, botocore's models."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from cli.main import app
from local import cdk
from tests.docs import aws_cli
from tests.docs.pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

OTHERS = {
    # Programs that are not of this repository, each with what is known about it.
    "source": "the shell's own",
    "cat": "coreutils",
    "head": "coreutils",
    "mkdir": "coreutils",
    "printf": "the shell's own",
    "sleep": "coreutils",
    "for": "the shell's own",
    "do": "the shell's own",
    "done": "the shell's own",
    "export": "the shell's own",
    "pre-commit": "its own documentation",
}


_REFUSED: Any = typer.BadParameter.__base__  # typer's own click has the class of all errors of usage
"""What typer raises for an option or an argument that a command does not have."""


class UnknownCommand(Exception):
    """A command that the program does not have, or an option that the command does not have."""


def parse(line: str, *, whole: bool = True) -> None:
    """Parse one command as its program does, without running it.

    Args:
        line: the command.
        whole: it has all its arguments. A text may name a command without them.

    Raises:
        UnknownCommand: the program refuses it.
    """
    if "$(" not in line:
        for piece in _pieces(line):
            _parse(piece, whole=whole)
    else:
        _parse(shlex.split(line), whole=whole)


def _pieces(line: str) -> Iterator[list[str]]:
    """Yield the words of each command of a pipeline or list, without redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    redirected = False
    for token in lexer:
        if token in ("<", ">", ">>"):
            redirected = True
        elif set(token) <= set("|&;"):
            yield words
            words = []
        elif redirected:
            redirected = False
        else:
            words.append(token)
    yield words


def _parse(words: list[str], *, whole: bool) -> None:
    """Parse the words of one command."""
    while words and re.fullmatch(r"\w+=\S*", words[0]):
        words = words[1:]
    if not words:
        return
    program, rest = words[0].removeprefix(".venv/bin/"), words[1:]
    if program == "tuneway":
        _tuneway(rest, whole=whole)
    elif program == "make":
        _make(rest)
    elif program == "cdk":
        _cdk(rest)
    elif program == "aws":
        try:
            if rest:
                aws_cli.parse(rest)
        except aws_cli.CommandError as error:
            raise UnknownCommand(str(error)) from error
    elif program in ("python", "python3.12"):
        _python(rest)
    elif program.startswith("."):
        if not os.access(ROOT / program, os.X_OK):
            raise UnknownCommand(f"{program} is no program of the repository")
    elif program not in OTHERS:
        raise UnknownCommand(f"{program} is not known; add it to tests/docs/parsing.py")


def _tuneway(words: list[str], *, whole: bool) -> None:
    """Parse the words as typer does. A file must not exist."""
    command: Any = get_command(app)
    context = typer.Context(command, info_name="tuneway")
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None:
            break
        command, words = found, words[1:]
        context = typer.Context(command, parent=context, info_name=command.name)
    words = [word for word in words if word != "--help"]
    if isinstance(command, TyperGroup) and not words:
        return
    name = next((word for word in words if not word.startswith("-")), "")
    try:
        command.make_context(command.name, words, parent=context.parent)
    except _REFUSED as error:
        if not whole and not words:
            return
        raise UnknownCommand(f"tuneway: {error}") from error
    if isinstance(command, TyperGroup) and name:
        raise UnknownCommand(f"tuneway has no command {name}")


@cache
def _dry(*words: str) -> str:
    """Return what make would run for a target, also if all is made already."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UnknownCommand(done.stderr.strip())
    return done.stdout


def _make(words: list[str]) -> None:
    """Check the target, and that each variable of the command line changes what make would run."""
    targets = [word for word in words if "=" not in word]
    for variable in (word for word in words if "=" in word):
        name, _, value = variable.partition("=")
        if _dry(*targets, f"{name}=") == _dry(*targets, variable) or not value:
            raise UnknownCommand(f"make {' '.join(targets)} has no variable {name}")
    _dry(*targets)


@cache
def _cdk_help(*command: str) -> str:
    env = cdk.environment(None, "us-west-2", ROOT / ".local" / "home") | {"CI": "1"}
    done = subprocess.run(
        [str(ROOT / "node_modules/.bin/cdk"), *command, "--help"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UnknownCommand(done.stderr.strip())
    return done.stdout


def _cdk(words: list[str]) -> None:
    if not words:
        return
    if not re.search(rf"^  cdk {re.escape(words[0])}\b", _cdk_help(), re.MULTILINE):
        raise UnknownCommand(f"the CDK CLI has no command {words[0]}")
    for option in (word.partition("=")[0] for word in words if word.startswith("-")):
        if not re.search(rf"(^|\s){re.escape(option)}\b", _cdk_help(words[0])):
            raise UnknownCommand(f"cdk {words[0]} has no option {option}")


def _python(words: list[str]) -> None:
    """Check that the module exists, and that its source has the options."""
    if words[:1] != ["-m"]:
        return
    name, rest = words[1], words[2:]
    if name in ("pytest", "pip"):
        missing = [word for word in rest if "/" in word and not (ROOT / word.partition("::")[0]).exists()]
        if missing:
            raise UnknownCommand(f"there is no {missing[0]}")
        return
    spec = find_spec(name)
    main = find_spec(f"{name}.__main__") if spec and spec.submodule_search_locations else spec
    if main is None or main.origin is None or not Path(main.origin).is_relative_to(ROOT):
        raise UnknownCommand(f"there is no program {name}")
    source = Path(main.origin).read_text(encoding="utf-8")
    for option in (word for word in rest if word.startswith("--")):
        if f'"{option}"' not in source:
            raise UnknownCommand(f"{name} has no option {option}")
