"""Runs the commands of Markdown pages on local AWS, and writes their outputs: `python -m tests.docs.outputs PAGE...`.

`make docs-outputs` also makes what the deployment needs. The stack is deployed on a local AWS with SmolLM2-135M. Each block of
bash or python that is followed by a block `text` is run, and the block `text` gets what a terminal of 100 columns has shown.
One stack serves all pages of a call, in their order, so a page finds the runs of those before it. CONTRIBUTING.md ("An output
in a page") has the options of a block.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import shutil
import signal
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from local import settings
from local.run import allow_endpoint_update
from local_aws.server import ACCOUNT
from local_aws.session import LocalAws
from tests.docs import screenshots
from tests.local.deployed import REGION, ROOT, Deployed, synthesise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGES = ("docs/examples/own-csv.md", "docs/examples/german.md", "docs/examples/serve-and-chat.md")
HOME = ROOT / ".local" / "docs"
WIDTH = 100
"""Columns of the terminal, in which the tables are drawn."""
LONGEST = 120
"""Columns of a page."""
WRAPPED: dict[str, Any] = {
    "width": LONGEST,
    "replace_whitespace": False,
    "break_on_hyphens": False,
    "break_long_words": False,
}
"""How a longer line is broken, which a terminal does at any letter."""
PAIR = re.compile(
    r"^```(?P<language>bash|python)\n(?P<code>(?:(?!```).*\n)*)```\n"
    r"(?P<between>(?:(?!```|#).*\n)*?)"
    r"^```text(?P<options>(?: .*)?)\n(?P<output>(?:(?!```).*\n)*)```$",
    re.MULTILINE,
)
"""A block that is run, lines of text if there are any, and the block with its output."""

RUNS = ("9f8e", "2f8e")
"""The beginnings of the ids of the stack's first runs in the pages."""


class OutputError(Exception):
    """A block of a page did not end as its page says. The message has the place and the output."""


class OutputOptions(NamedTuple):
    """The words behind ```text.

    Attributes:
        first: the lines that are kept of the output's beginning.
        begin: the word with which the first of the other lines that are kept begins, or
        last: the lines that are kept of its end. Without all three, all lines are kept.
        until: the text after which Ctrl-C is pressed, once it is shown.
        exit: the exit code of the block. None: 0, or after Ctrl-C 130.
    """

    first: int = 0
    begin: str | None = None
    last: int | None = None
    until: str | None = None
    exit: int | None = None

    @classmethod
    def parsed(cls, words: str) -> OutputOptions:
        """Return the options of `first=5 last=3 until=TEXT exit=1`."""
        found = dict(word.split("=", 1) for word in words.split())
        numbers = {name: int(found.pop(name)) for name in ("first", "last", "exit") if name in found}
        return cls(**numbers, **found)  # type: ignore[arg-type]  # another word is a TypeError with its name

    def trimmed(self, text: str) -> str:
        """Return the lines of the output that its page shows.

        Raises:
            OutputError: no line begins with `begin`.
        """
        lines = [part for line in text.splitlines() for part in textwrap.wrap(line, **WRAPPED) or [""]]
        rest = 0
        if self.begin is not None:
            rest = next((n for n, line in enumerate(lines) if line.startswith(self.begin)), -1)
            if rest < 0:
                raise OutputError(f"no line begins with {self.begin!r}:\n{text}")
        elif self.first or self.last is not None:
            rest = len(lines) - (self.last or 0)
        if rest <= self.first + 1:
            return "\n".join(lines)
        return "\n".join([*lines[: self.first], "...", *lines[rest:]])


def in_terminal(command: list[str], env: dict[str, str], until: str | None, seconds: float = 1500) -> tuple[str, int]:
    """Run a command in a terminal without cursor movements, and answer y where it asks.

    Args:
        command: the program and its arguments.
        env: its environment.
        until: after this text, Ctrl-C is pressed.
        seconds: after these, the command is stopped.

    Returns:
        What the terminal showed, and the exit code.
    """
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(ROOT)
        # A shell without job control starts `make docs-outputs &` with SIGINT ignored, which this program would inherit.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execvpe(command[0], command, env)
    text, answered, deadline = "", 0, time.time() + seconds
    while time.time() < deadline:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            shown = os.read(terminal, 65536)
        except OSError:  # Linux's end of a terminal
            break
        text += shown.decode(errors="replace").replace("\r\n", "\n")
        if text[answered:].endswith("[y/N]: "):
            answered = len(text)
            os.write(terminal, b"y\n")
        if until and until in text:
            until = None
            os.write(terminal, b"\x03")
    else:
        os.kill(pid, signal.SIGTERM)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(terminal)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text), code


class Runner:
    """Runs blocks as a user of the deployed stack does.

    The pages show the commands for an account, with the names and the address of the README. On local AWS each command also
    needs `--settings`, which a program `tuneway` in the path adds, and which is taken out of what the commands print.
    """

    def __init__(self, stack: Deployed, settings_file: Path) -> None:
        programs = stack.log.parent / "bin"
        programs.mkdir(exist_ok=True)
        tuneway = programs / "tuneway"
        tuneway.write_text(f'#!/bin/sh\nexec {sys.executable} -m cli "$@" --settings {settings_file}\n')
        tuneway.chmod(0o755)
        path = os.pathsep.join([str(programs), stack.env["PATH"]])
        terminal = {"TERM": "dumb", "COLUMNS": str(WIDTH), "LINES": "60", "BROWSER": "true", "PYTHONPATH": str(ROOT)}
        self.env = stack.env | terminal | {"PATH": path}
        self._names = {stack.prefix: "tuneway-0a1b2c3d", ACCOUNT: "123456789012"}
        self._replaced = {
            rf"\s+--settings\s+({re.escape(str(settings_file))}|{re.escape(os.path.relpath(settings_file, ROOT))})": "",
            re.escape(f"{ROOT}/"): "",
            re.escape(
                f"{stack.aws.endpoint_url}/endpoints/"
            ): f"https://runtime.sagemaker.{REGION}.amazonaws.com/endpoints/",
            **{re.escape(real): shown for real, shown in self._names.items()},
        }
        self._role = stack.outputs["CallerRoleArn"]
        self._stack = stack

    def _runs(self) -> list[tuple[str, str]]:
        """Return the beginnings of the ids of the first runs that have a record, with those of the pages."""
        found = self._stack.aws.client("s3").list_objects_v2(Bucket=self._stack.outputs["BucketName"], Prefix="models/")
        entries = sorted(found.get("Contents", []), key=lambda entry: entry["LastModified"])
        recorded = {entry["Key"].split("/")[1] for entry in entries if entry["Key"].endswith("/run.json")}
        ids = dict.fromkeys(entry["Key"].split("/")[1] for entry in entries)
        return [(run[:4], shown) for run, shown in zip((run for run in ids if run in recorded), RUNS, strict=False)]

    def run(self, language: str, code: str, options: OutputOptions) -> str:
        """Return the block's output.

        Raises:
            OutputError: the block ended with another exit code than its page says.
        """
        code = re.sub(r"arn:aws:iam::123456789012:role/[\w-]+", self._role, code)
        for real, shown in self._names.items():
            code = code.replace(shown, real)
        for real, shown in self._runs():
            code = re.sub(rf"\b{shown}\b", real, code)
        command = ["bash", "-ec", code] if language == "bash" else [sys.executable, "-c", code]
        text, exit_code = in_terminal(command, self.env, options.until)
        for pattern, shown in self._replaced.items():
            text = re.sub(pattern, shown, text)
        for real, shown in self._runs():
            text = re.sub(rf"\b{real}(?=[0-9a-f]{{6}}\b)", shown, text)
        expected = (130 if options.until else 0) if options.exit is None else options.exit
        if exit_code != expected:
            raise OutputError(f"exit code {exit_code} and not {expected}; all that it showed:\n{text}")
        return text.strip("\n")


def with_outputs(page: str, text: str, run: Callable[[str, str, OutputOptions], str]) -> str:
    """Return the page's text with the outputs of its blocks as they are now.

    Args:
        page: the page's path.
        text: its text.
        run: returns the output of a block in a language.
    """
    parts, position = [], 0
    for found in PAIR.finditer(text):
        place = f"{page}:{text.count(chr(10), 0, found.start('code')) + 1}"
        began = time.time()
        try:
            options = OutputOptions.parsed(found["options"])
            output = options.trimmed(run(found["language"], found["code"], options))
        except (OutputError, TypeError, ValueError) as error:
            raise OutputError(f"{place}: {error}") from error
        print(f"{place} {time.time() - began:.1f} s", flush=True)
        parts += [text[position : found.start("output")], output + "\n"]
        position = found.end("output")
    return "".join([*parts, text[position:]])


@contextmanager
def deployed() -> Iterator[tuple[Deployed, Path]]:
    """Deploy the stack `tuneway` on local AWS. Yield it with its settings file."""
    HOME.mkdir(parents=True, exist_ok=True)
    aws = LocalAws(HOME / "aws", REGION, ROOT / ".local" / "hub")
    stack = synthesise(HOME, aws, layer=settings.TEMPLATE, stack={"name": "tuneway"})
    aws.start()
    try:
        stack.bootstrap()
        stack.deploy()
        allow_endpoint_update(aws)
        yield stack, HOME / "settings.yaml"
    finally:
        aws.stop()


def main() -> None:
    """Run the blocks of the pages, write the pages, and take the screenshots."""
    parser = argparse.ArgumentParser(prog="python -m tests.docs.outputs", description=str(__doc__).partition("\n")[0])
    parser.add_argument("pages", nargs="*", default=PAGES, help="the pages, in the order in which they are run")
    parser.add_argument("--screenshots", type=Path, help="the folder for pictures of the report and of the chat page")
    arguments = parser.parse_args()
    with deployed() as (stack, settings_file):
        runner = Runner(stack, settings_file)
        shutil.rmtree(ROOT / ".local" / "examples", ignore_errors=True)  # what the blocks of an earlier call have made
        for page in arguments.pages:
            path = ROOT / page
            try:
                path.write_text(with_outputs(page, path.read_text(encoding="utf-8"), runner.run), encoding="utf-8")
            except OutputError as error:
                sys.exit(f"error: {error}")
        if arguments.screenshots:
            screenshots.take(runner.env, arguments.screenshots)


if __name__ == "__main__":
    main()
