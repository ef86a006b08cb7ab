"""Each refusal in the sections that are fixed when the stack is deployed names the field and the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.pipeline.settings.conftest import assert_file_is_refused

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("access: {dataset_buckets: mine}", "not 'mine'; write a list such as [my-bucket]"),
        ("stack: {tags: [a]}", "not ['a']; write names with values, such as {name: value}"),
        ("functions: {python: 3.13}", '"3.13"'),
        ("functions: {python: 3.9}", "'3.13', not 3.9"),
        ("functions: {log_retention_days: '30'}", "not '30'; write 30 without quotes"),
        (
            "stack: {tags: {a: 4711}}",
            'stack.tags.a: Input should be a valid string, not 4711; put it in quotes: "4711"',
        ),
        (
            "stack: {tags: {2026: a}}",
            'stack.tags.2026: Input should be a valid string, not 2026; put it in quotes: "2026"',
        ),
        ("stack: {tags: {a: true}}", 'not True; put it in quotes: "true"'),
        (
            "stack: {tags: {a: 'b!'}}",
            "stack.tags.a: does not have the required form (tags on all resources, for your cost",
        ),
        *(
            (
                f"stack: {{tags: {{a: '{value}'}}}}",
                f"stack.tags.a: does not have the required form (tags on all resources, for your "
                f"cost reports; they hold letters, digits, blanks and _ . : / = + - @), not '{value}'",
            )
            for value in ("metal,openstack", "{var.team}", "https://a/?gr=1&b=2", "19%3a", 'say "x"')
        ),
        ("stack: {tags: {'': b}}", "stack.tags.: String should have at least 1 character"),
        ("stack: {tags: {aws:a: b}}", "keys that begin with aws: or tuneway: are reserved; rename 'aws:a'"),
        (
            "stack: {tags: {A: b, a: c}}",
            "'A' and 'a' are the same key to IAM, which ignores the case; keep one of them",
        ),
        ("stack: {tags: {a: Köln}}", "stack.tags: Bedrock takes only a to z, digits, "),
        (
            f"stack: {{tags: {{{', '.join(f'a{n}: b' for n in range(48))}}}}}",
            "stack.tags: Dictionary should have at most 47",
        ),
        ("stack: {region: oregon}", "not 'oregon'; write for example us-west-2"),
        ("stack: {nam: x}", "stack.nam: unknown field; allowed here: name, region, qualifier, tags"),
        ("stack: {name: Tuneway_1}", "stack.name"),
        ("stack: {name: my--stack}", "stack.name"),
        ("stack: {name: a-name-of-25-characters-x}", "stack.name"),
        ("encryption: {kms_key_arn: alias/mine}", "encryption.kms_key_arn"),
        ("network: {subnets: [subnet-1]}", "network: subnets and security_groups: a VPC needs both"),
        ("network: {security_groups: [sg-1]}", "network: subnets and security_groups: a VPC needs both"),
        ("network: {wheels: uploads/wheels}", "network.wheels"),
        ("network: {isolation: true}", "network.isolation: an isolated training job reaches neither the Hub nor PyPI"),
        ("storage: {expire_days: 1}", "storage.expire_days"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path: Path, text: str, expected: str) -> None:
    assert_file_is_refused(tmp_path, text, expected)
