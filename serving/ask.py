"""Ask the served model: `python -m serving.ask DIALOGUE`, or `--batch FILE` for every row of a file. `make ask` runs it.

DIALOGUE is a file, or - for standard input. The answer goes to standard output as it comes, and everything else to standard
error. The exit code is 0 only if everything was answered.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.errors import Refused, SourceUnavailable
from pipeline.settings import SettingsError
from serving import deployed
from serving import stack as stacks
from serving.batch import Batch, run
from serving.measured import MeasuredAnswer
from serving.models import NotAnswered

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.models import Model, Tell
    from serving.stack import Stack

MODELS: dict[str, Callable[[Stack, Tell], Model]] = {"endpoint": deployed.endpoint, "bedrock": deployed.bedrock}
"""The places in which a stack's model may be served."""


def main() -> None:
    """Parse the command line, and ask."""
    parser = argparse.ArgumentParser(prog="python -m serving.ask", description="Ask the model that your stack serves.")
    parser.add_argument("dialogue", nargs="?", help="a text file, or - for standard input")
    parser.add_argument("--model", choices=MODELS, default="endpoint", help="where the model is asked")
    parser.add_argument("--settings", type=Path, help="the settings file of the stack, laid over config.yaml")
    parser.add_argument("--batch", type=Path, help="a file of rows, in each format that data prep reads")
    parser.add_argument("--field", help="the batch file's column with the dialogue; else that of dataset.fields")
    parser.add_argument("--output", type=Path, help="the file for a batch's answers: .jsonl or .csv")
    parser.add_argument("--concurrency", type=int, default=4, help="how many rows of a batch are asked at once")
    given = parser.parse_args()
    try:
        clean = _ask(given)
    except BrokenPipeError:
        # The reader of the answer has ended, as in `make ask ... | head`. Python writes the rest to nobody. The signal SIGPIPE
        # stays ignored: it would also end the process when AWS closes a connection that is written to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (Refused, SettingsError, SourceUnavailable, NotAnswered, OSError) as error:
        sys.exit(f"error: {error}")
    except (ClientError, BotoCoreError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}; check your AWS credentials and the region, and ask again")
    except KeyboardInterrupt:
        sys.exit("interrupted: the answers of a batch so far are kept, and the same command goes on")
    sys.exit(0 if clean else 1)


def _ask(given: argparse.Namespace) -> bool:
    """Do what the command line says. Return whether everything was answered."""
    if (given.dialogue is None) == (given.batch is None):
        raise Refused("name one of the two: DIALOGUE=FILE (- for standard input) for one answer, or BATCH=FILE")
    text = _dialogue(given.dialogue) if given.dialogue is not None else ""
    settings = stacks.load(given.settings)
    job = Batch.of(given.batch, given.output, given.field, given.concurrency, settings) if given.batch else None
    told: set[str] = set()

    def tell(line: str) -> None:
        if line not in told:  # once, and not at each try of the SDK
            told.add(line)
            print(line, file=sys.stderr, flush=True)

    model = MODELS[given.model](stacks.find_stack(settings), tell)
    if job:
        return run(job, model)
    answer = MeasuredAnswer(model, text)
    for piece in answer.pieces():
        print(piece, end="", flush=True)
    print(flush=True)
    print(f"{model.title} {model.id} (run {model.run}): {answer.line()}", file=sys.stderr)
    return bool(answer.text.strip())


def _dialogue(name: str) -> str:
    """Return the text of a file or of standard input."""
    try:
        text = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        dialogue = text.decode("utf-8-sig")
    except OSError as error:
        raise Refused(f"DIALOGUE={name}: {error.strerror}; name a text file, or - for standard input") from error
    except UnicodeDecodeError as error:
        raise Refused(f"DIALOGUE={name}: it is not UTF-8 text; save it as UTF-8") from error
    if not dialogue.strip():
        raise Refused(f"DIALOGUE={name}: it has no text; write the dialogue into it")
    return dialogue.replace("\r\n", "\n").strip("\n")


if __name__ == "__main__":
    main()
