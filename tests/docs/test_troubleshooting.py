"""docs/troubleshooting.md has a row for every line about a problem that the product can print."""

from __future__ import annotations

import ast
import re

from markdown_it import MarkdownIt

from tests.docs.lines import ProblemLine, lines, of_module
from tests.docs.pages import ROOT

PAGE = "docs/troubleshooting.md"

NO_ROW = {
    # Lines that need no row, as patterns, each with the reason.
    r"quota 'Imported models per account' \(L-45B04988\)": "the beginning of other lines",
    r"hidden, about the data, or none of .*": "a part of the warning about files that are not read",
    r"config\.json.*|tokenizer_config\.json, auto_map": "a part of another line",
    r"\{\} \{\} \(run \{\}\): \{\}": "the line of `tuneway ask` about an answer",
    r".* min left": "the progress of a batch",
    r"ask who administers the account to allow .*": "a part of another line",
    r"execution \{\}: \{\}": "hands on the reason of an execution, which has a row",
    r"local\.model: \{\}": "hands on another line",
    r"error: \{\}|execution input: \{\}": "hands on another line",
    r"training\.base_model: \{\} \{\}; \{\}": "its parts stand where it is called",
    r"Tuneway: stack \{\} in \{\}": "what is synthesised",
    r"endpoint\.promote is always: any model is served|.*, as endpoint\.promote: (better|clearly_better) asks": (
        "why a model is served"
    ),
}

NOT_OURS = {
    # Titles that no line of the product has, each with who prints them.
    "CapacityError: Unable to provision requested ML compute capacity": "SageMaker",
    "AlgorithmError: …, exit code: 137": "SageMaker",
    "… is not authorized to perform: sagemaker:CallWithBearerToken …": "SageMaker",
    "… sagemaker:InvokeEndpoint …": "SageMaker",
    "Endpoint … of account … not found.": "SageMaker",
    "ModelNotReadyException": "Bedrock",
    "AccessDeniedException … bedrock:List…": "Bedrock",
    "AwsBusy: …": "pipeline.aws, with the text of botocore",
    "AwsLimit: … ResourceLimitExceeded": "pipeline.aws, with the text of botocore",
    "Wrong: …": "`make test-account`, with a line for each thing that was wrong",
    '"deployment": "skipped"': "the output of an execution",
    "why": "the output of an execution",
    "What to do": "the message at a run's end",
    "training.base_model:": "the beginning of several lines",
    "execution FAILED:": "the beginning of a line that hands on a reason",
}


def titles() -> dict[str, str]:
    """Return the codes in the titles of the page's rows, with the text below each.

    A title is a paragraph that begins in bold. Its codes are the lines that a user sees, where … stands for words that differ.
    """
    tokens = MarkdownIt("commonmark").parse((ROOT / PAGE).read_text(encoding="utf-8"))
    found: dict[str, str] = {}
    current: list[str] = []
    for token in tokens:
        if token.type == "inline" and token.content.startswith("**"):
            children = token.children or []
            current = [" ".join(child.content.split()) for child in children if child.type == "code_inline"]
            found |= dict.fromkeys(current, "")
        elif token.type == "heading_open":
            current = []
        elif token.type == "inline":
            for title in current:
                found[title] += token.content
    return found


def fits(title: str, line: ProblemLine) -> bool:
    """Return whether the constant words of a title stand in a line, in their order."""
    pieces = [re.escape(piece) for piece in re.split(r"\s*…\s*", title) if piece]
    kind = "Tuneway.Refused" if line.kind in ("Refused", "NotAllowed", "SettingsError") else line.kind
    return bool(re.search(".*".join(pieces), f"{kind}: {' '.join(line.text.split())}", re.DOTALL))


def without_row() -> list[ProblemLine]:
    """Return the lines for which the page has no row."""
    known = titles().keys() - NOT_OURS.keys()
    return [
        line
        for line in lines()
        if not any(re.fullmatch(pattern, line.text, re.DOTALL) for pattern in NO_ROW)
        and not any(fits(title, line) for title in known)
    ]


def test_every_line_about_a_problem_has_a_row() -> None:
    assert len(lines()) > 350
    assert [f"{line.place}: {line.text}" for line in without_row()] == []


PLANTED = """
def f(name):
    raise Refused(f"{name} is refused; mend it")
    return NotAnswered("no answer; ask again")
    raise files.refuse(f"lacks {name}", "upload it again")
    warnings = [f"a warning about {name}"]
    self.warnings.append("one more warning")
    warnings += ["a third warning of many"]
    typer.echo("to the error stream", err=True)
    print(f"of a program {name}", file=sys.stderr)
    sys.exit("error: the end of all")
    raise StopIteration("nobody sees this")
    print("progress of no interest")
"""


def test_each_way_to_print_a_problem_is_found() -> None:
    found = {text for _, _, text in of_module("cli/planted.py", ast.parse(PLANTED))}
    assert found == {
        "{} is refused; mend it",
        "no answer; ask again",
        "training.base_model: {} lacks {}; upload it again",
        "a warning about {}",
        "one more warning",
        "a third warning of many",
        "to the error stream",
        "of a program {}",
        "error: the end of all",
    }


def test_a_title_fits_the_lines_with_its_words_in_their_order() -> None:
    line = ProblemLine("f.py", 1, "EndpointFailed", "endpoint {} did not become healthy: {}; look into {}")
    assert fits("EndpointFailed: … did not become healthy", line)
    assert fits("endpoint … did not …; look into …", line)
    assert not fits("… healthy … did not become", line)
    assert not fits("BedrockSick: … did not become healthy", line)


def test_every_title_is_of_a_line_of_the_product_or_says_whose_it_is() -> None:
    every = lines()
    stale = [title for title in titles() if title not in NOT_OURS and not any(fits(title, line) for line in every)]
    assert stale == [], "no line of the product has these words any more; change the rows"


def test_a_title_does_not_fit_almost_everything() -> None:
    """Else it would hide lines without a row."""
    every = lines()
    for title in titles().keys() - NOT_OURS.keys():
        assert len(re.findall(r"[A-Za-z]", title)) > 4, title
        assert sum(fits(title, line) for line in every) <= 12, title


def test_a_row_says_more_than_its_line() -> None:
    for title, text in titles().items():
        assert len(text.split()) > 4, f"the row of {title} says nothing"


if __name__ == "__main__":
    for one in without_row():
        print(f"{one.place} [{one.kind}] {one.text}")
