"""Says for each block of the pages how it is checked, and where it is run.

Every block has one claim. A claim names the page and the beginning of the block's text, so that lines above it may change.
`check` is a function of `tests.docs.checks`. It parses the block, and runs what needs no deployed stack. `run` names the test
that runs the block as it is printed. A claim without `run` says why nothing runs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.docs import checks

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.docs.pages import Block

LIFE = "tests/local/cli/test_pages.py::test_every_command_of_the_pages_runs_in_one_life"
"""Runs the blocks of `LIVED`, in their order, on a deployed stack."""

BOOTSTRAP = "tests/local/cli/test_pages.py::test_the_bootstrap_of_the_stacks_own_is_made_as_printed"
CFN_LINT = "tests/infra/test_operate_page.py::test_cfn_lint_accepts_the_template"
TEMPLATE = (
    'Parameters:\n  Stack: {Type: String, Description: "Tuneway\'s output EndpointName, such as tuneway-0a1b2c3d"}\n'
)
PRICE = "tests/unit/account/test_run.py::test_the_page_of_the_life_has_the_price_that_the_command_shows"
SECRET = "tests/local/cli/test_pages.py::test_the_secret_is_made_as_printed"
HERE = "tests/docs/test_claims.py::test_the_check_accepts_the_block"


class Claim(NamedTuple):
    """How a block is checked.

    Attributes:
        page: the page's path.
        begins: the beginning of the block's text. Only this block of the page begins so.
        check: the function that parses it.
        run: the test that runs it; empty if it is only parsed.
        why: why it is only parsed.
    """

    page: str
    begins: str
    check: Callable[[Block], None]
    run: str = ""
    why: str = ""


LIVED = (
    # The blocks that the life runs, in this order.
    ("README.md", "tuneway doctor"),
    ("docs/run.md", "tuneway plan "),
    ("docs/run.md", "tuneway run "),
    ("docs/run.md", "tuneway watch "),
    ("docs/cli.md", "tuneway runs\n"),
    ("docs/cli.md", "tuneway report "),
    ("docs/report.md", "tuneway report "),
    ("docs/cli.md", "tuneway serve "),
    ("docs/ask.md", "tuneway ask chat.txt"),
    ("docs/ask.md", "tuneway ask --batch"),
    ("docs/cli.md", "tuneway stop"),
    ("docs/cli.md", "tuneway down"),
)

MINUTES = "it takes minutes, and .ci/run runs `make local`, `make check` and `make test`"
WHOLE = "it is the output of `make local`, which .ci/run runs; the texts are those of one run"

CLAIMS = (
    *(Claim(page, begins, checks.shell, LIFE) for page, begins in LIVED),
    Claim("README.md", "flowchart LR", checks.steps, HERE),
    Claim("README.md", "make local ", checks.shell, why=MINUTES),
    Claim("README.md", "Verdict ", checks.verdict, why=WHOLE),
    Claim("README.md", "from serving.endpoint", checks.program, LIFE),
    Claim("README.md", "app.py ", checks.tree, HERE),
    Claim("CONTRIBUTING.md", "flowchart LR", checks.imports, HERE),
    Claim("CONTRIBUTING.md", "make check ", checks.shell, why=MINUTES),
    Claim("docs/account.md", "At most ", checks.output, PRICE),
    Claim(
        "docs/account.md", ".venv/bin/python -m account.compare", checks.shell, why="no account has been recorded yet"
    ),
    Claim(
        "docs/account.md", "ok       definition", checks.output, why="it is what a whole life shows, and figures change"
    ),
    Claim("docs/account.md", "make test-account ", checks.shell, why="it takes an hour of an account, and asks before"),
    Claim("docs/architecture.md", '{"messages"', checks.chat, LIFE),
    Claim("docs/architecture.md", '{\n  "Sid": "LetIamPoliciesDecide"', checks.statements, HERE),
    Claim("docs/architecture.md", "python3.12 -m pip wheel", checks.shell, why="it downloads gigabytes of packages"),
    Claim("docs/ask.md", '[{"role"', checks.conversation, HERE),
    Claim(
        "docs/calling.md",
        "https://runtime.",
        checks.output,
        "tests/serving/test_endpoint.py::test_the_readme_has_the_same_program",
    ),
    Claim("docs/calling.md", '{"Effect"', checks.statements, HERE),
    Claim("docs/calling.md", "from datetime", checks.program, LIFE),
    Claim(
        "docs/cli.md",
        ".venv/bin/tuneway --help",
        checks.shell,
        why="the second line is `make`, which looks at the set-up",
    ),
    Claim("docs/cli.md", "ok       versions", checks.output, LIFE),
    Claim("docs/costs.md", "aws ce", checks.shell, why="local AWS has no Cost Explorer"),
    Claim("docs/data.md", '{"dialogue"', checks.formats, HERE),
    Claim("docs/data.md", '{"messages"', checks.row, HERE),
    Claim("docs/deploy.md", "aws secretsmanager", checks.shell, SECRET),
    Claim(
        "docs/deploy.md",
        "cdk bootstrap",
        checks.shell,
        why="each deployed test runs both by the CDK CLI, with options of local AWS (tests/local/deployed.py)",
    ),
    Claim("docs/deploy.md", '{"training"', checks.run_input, LIFE),
    Claim("docs/deploy.md", '{"serve": "last"}', checks.run_input, HERE),
    Claim("docs/deploy.md", '{"serve": "9f8e7d6c5b"', checks.run_input, HERE),
    Claim("docs/examples/README.md", "make local KEEP=1", checks.shell, why=MINUTES),
    Claim("docs/models-in-bedrock.md", "import boto3", checks.program, LIFE),
    Claim("docs/operate.md", f"{TEMPLATE}  Workspace", checks.output, CFN_LINT),
    Claim("docs/operate.md", f"{TEMPLATE}  Email", checks.output, CFN_LINT),
    Claim("docs/people.md", "python -m infra.permissions", checks.shell, BOOTSTRAP),
    Claim(
        "docs/performance.md",
        "make bench-gpu",
        checks.shell,
        why="it measures a GPU for minutes",
    ),
    Claim(
        "docs/performance.md",
        "make prove-gpu",
        checks.shell,
        why="it takes minutes",
    ),
    Claim("docs/people.md", "account=", checks.shell, BOOTSTRAP),
    Claim("docs/people.md", "❌  tuneway failed", checks.output, why="it is what the CDK CLI printed without a grant"),
    Claim("docs/people.md", "stack:", checks.settings, HERE),
    Claim("docs/run.md", "dataset     my.csv", checks.output, LIFE),
    Claim(
        "docs/run.md",
        "c75f9f28",
        checks.output,
        "tests/docs/test_claims.py::test_the_drawn_run_has_the_form_of_a_recorded_one",
    ),
    Claim("docs/scores.md", "training:", checks.settings, HERE),
    Claim("local_aws/README.md", "curl ", checks.faults, HERE),
    Claim("local_aws/README.md", '{"kind": "no-endpoint"', checks.faults, HERE),
    Claim(
        "local_aws/README.md",
        "python -m local_aws.server",
        checks.shell,
        why="each test of local AWS starts it so, on a port of its own (tests/local_aws/conftest.py)",
    ),
)
"""The claims of all pages. `make test` fails for a block without one, and for one without a block."""
