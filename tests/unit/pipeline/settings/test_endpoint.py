"""Each refusal in the section `endpoint` names the field and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.pipeline.settings.conftest import assert_input_is_refused


@pytest.mark.parametrize(
    ("given_input", "expected"),
    [
        (
            {"endpoint": {"only_if_better": True, "promot": "better"}},
            r"input: endpoint\.only_if_better is now endpoint\.promote: better \(which true was\), always",
        ),
        ({"endpoint": {"promote": True}}, r"endpoint\.promote: .*'always', 'better' or 'clearly_better', not True"),
        *(
            (
                {"endpoint": {"instance_types": kind}},
                rf"endpoint: instance_types: {kind} has no NVIDIA GPU on which .*; choose another, such as ml\.g5\.xlarge",
            )
            for kind in ("ml.inf2.xlarge", "ml.t2.medium", "ml.trn1.2xlarge", "ml.g4ad.xlarge", "ml.g5g.xlarge")
        ),
        (
            {"endpoint": {"max_model_len": 256}},
            r"input: endpoint\.max_model_len: 256 is less than training\.max_length",
        ),
        ({"endpoint": {"instance_count": 0}}, r"endpoint\.instance_count: .*greater than or equal to 1, not 0"),
        ({"endpoint": {"idle_minutes": 14}}, r"endpoint\.idle_minutes: .*greater than or equal to 15, not 14"),
        ({"endpoint": {"idle_minutes": 10_081}}, r"endpoint\.idle_minutes: .*less than or equal to 10080, not 10081"),
        ({"endpoint": {"instance_count": 11}}, r"endpoint\.instance_count: .*less than or equal to 10, not 11"),
    ],
)
def test_a_wrong_input_is_refused_in_one_line(deployed: dict[str, Any], given_input: Any, expected: str) -> None:
    assert_input_is_refused(deployed, given_input, expected)
