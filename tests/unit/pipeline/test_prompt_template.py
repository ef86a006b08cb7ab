"""A template is text with the names of columns in braces, and nothing more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.prompt_template import parse_template


@pytest.mark.parametrize(
    ("template", "texts", "names"),
    [
        ("{a}", ["", ""], ["a"]),
        ("{question}\n\n{context}", ["", "\n\n", ""], ["question", "context"]),
        ("{{{a}}} {{}} {a} {b c}.", ["{", "} {} ", " ", "."], ["a", "a", "b c"]),
    ],
)
def test_texts_and_names_are_found(template: str, texts: list[str], names: list[str]) -> None:
    assert parse_template(template) == (texts, names)


@pytest.mark.parametrize(
    "template", ["", "a", "{{a}}", "{}", "{a", "a}", "{a}}", "{ a}", "{a.b}", "{a[0]}", "{a!r}", "{a:>9}", "{a{b}}"]
)
def test_anything_else_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"; write|stands alone"):
        parse_template(template)


@given(st.lists(st.tuples(st.text(), st.from_regex(r"[a-z_ü]{1,5}", fullmatch=True)), min_size=1), st.text())
def test_a_template_gives_what_pythons_format_gives(parts: list[tuple[str, str]], last: str) -> None:
    def escaped(text: str) -> str:
        return text.replace("{", "{{").replace("}", "}}")

    template = "".join(f"{escaped(text)}{{{name}}}" for text, name in parts) + escaped(last)
    texts, names = parse_template(template)
    values = {name: f"<{name}>" for name in names}
    joined = "".join(f"{text}{values[name]}" for text, name in zip(texts, names, strict=False)) + texts[-1]
    assert joined == template.format(**values)
