"""The start of the command line: its commands in their order, and nothing that is slow to import."""

from __future__ import annotations

import subprocess
import sys

from cli.main import ORDER
from tests.local_aws.conftest import ROOT

HELP = """
import sys
from cli.main import main

sys.argv = ["tuneway", "--help"]
try:
    main()
finally:
    print({"openai", "transformers", "numpy", "pyarrow", "gradio"} & set(sys.modules), file=sys.stderr)
"""


def test_help_has_the_commands_in_order_and_imports_nothing_slow() -> None:
    command = [sys.executable, "-c", HELP]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "set()\n")
    words = [line.split()[1] for line in done.stdout.partition("Commands")[2].splitlines() if line.startswith("│ ")]
    assert [word for word in words if word in ORDER] == list(ORDER)
