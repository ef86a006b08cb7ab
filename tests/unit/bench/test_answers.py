"""The benchmark of the answers refuses what it cannot measure before it loads the model."""

from __future__ import annotations

import pytest

from bench import answers


@pytest.mark.parametrize("size", ["0", "-3"])
def test_a_batch_size_without_rows_is_refused(
    size: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(answers, "ensure", None)
    with pytest.raises(SystemExit, match="2"):
        answers.main(["--batch-sizes", "10", size])
    assert "--batch-sizes: give numbers of 1 or more" in capsys.readouterr().err
