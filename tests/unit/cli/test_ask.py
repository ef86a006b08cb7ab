"""How `tuneway ask` ends when somebody hangs up: the reader of its answer, or the front door of the endpoint."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from threading import Thread

from tests.local_aws.conftest import ROOT

PRINTS = """
import sys
from cli.main import main
from serving import ask

ask.one = lambda *given: print("word " * 100_000)
sys.argv = ["tuneway", "ask", "-"]
main()
"""

ASKS = """
import sys
from openai import OpenAI
from cli.main import main
from serving import ask, models, questions

def asked(settings, place, port):
    client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
    model = models.Model("t", "e", "r", models.by_endpoint, client, "i", 9, "p", None, str)
    return list(model.answer(questions.user("x" * 7_000_000)))

ask.one = asked
sys.argv = ["tuneway", "ask", sys.argv[1]]
main()
"""

INTERRUPTED = """
import sys
from cli.main import main
from serving import ask

def stop(*given):
    raise KeyboardInterrupt

ask.one = ask.rows = stop
main()
"""


def test_a_reader_that_ends_early_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", PRINTS]
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, timeout=120, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_front_door_that_closes_the_connection_while_it_is_written_to_is_one_line() -> None:
    def refuse(door: socket.socket) -> None:
        caller, _ = door.accept()
        with caller:
            caller.recv(1000)
            caller.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            caller.shutdown(socket.SHUT_WR)
            time.sleep(0.3)

    with socket.create_server(("127.0.0.1", 0)) as door:
        Thread(target=refuse, args=[door], daemon=True).start()
        command = [sys.executable, "-c", ASKS, str(door.getsockname()[1])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    # With the signal SIGPIPE, the process would end without a word.
    assert (done.returncode, done.stderr) == (1, "error: the text is longer than SageMaker takes (6 MB); shorten it\n")


def test_ctrl_c_says_what_is_kept() -> None:
    def interrupted(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-c", INTERRUPTED, "ask", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stderr

    assert interrupted("-") == (130, "interrupted\n")
    kept = "interrupted: the answers of the batch so far are kept, and the same command goes on\n"
    assert interrupted("--batch", "rows.csv") == (130, kept)
