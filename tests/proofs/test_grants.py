"""The library of the proof of roles, tested with policies and decisions made by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_aws.ministack.decisions import RESOURCE_POLICY, evaluate
from tests.proofs import roles
from tests.proofs.grants import Assumed, ProofError, Role, asked, assumed, replay, split, used
from tests.proofs.unused import UNUSED, Unused

ROLE_ARN = "arn:aws:iam::000000000000:role/stack-ReaderRole-1"
BUCKET = "arn:aws:s3:::bucket"


def allow(action: Any, resource: Any, **condition: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource} | ({"Condition": condition} if condition else {})


def reader(*statements: dict[str, Any]) -> Role:
    policy = {"Version": "2012-10-17", "Statement": list(statements)}
    return split("Reader", "stack-ReaderRole-1", [policy], {"bucket": "BUCKET", "000000000000": "ACCOUNT"})


def decision(action: str, resource: str, allowed: bool = True, role: str = "stack-ReaderRole-1", **context: Any) -> Any:
    principal = f"arn:aws:sts::000000000000:assumed-role/{role}/session"
    request = {"action": action, "resource": resource, "context": context}
    return {"time": 1.0, "principal": principal, **request, "allowed": allowed}


GET = decision("s3:GetObject", f"{BUCKET}/runs/1")


def unneeded(role: Role, *decisions: Any) -> list[str]:
    return [str(grant) for grant in replay(role, decisions).unneeded]


def test_a_statement_is_split_to_single_grants_with_readable_names() -> None:
    like = {"s3:prefix": ["runs/*", "uploads/*"]}
    role = reader(
        allow(["s3:GetObject", "s3:PutObject"], [f"{BUCKET}/runs/*", "arn:aws:logs:x:000000000000:y"]),
        allow("s3:ListBucket", BUCKET, StringLike=like),
    )
    assert [str(grant) for grant in role.grants] == [
        "s3:GetObject on arn:aws:logs:x:ACCOUNT:y",
        "s3:GetObject on arn:aws:s3:::BUCKET/runs/*",
        "s3:ListBucket on arn:aws:s3:::BUCKET if s3:prefix StringLike runs/* or uploads/*",
        "s3:PutObject on arn:aws:logs:x:ACCOUNT:y",
        "s3:PutObject on arn:aws:s3:::BUCKET/runs/*",
    ]
    assert role.grants[2].statement == allow("s3:ListBucket", BUCKET, StringLike=like)


def test_what_no_decision_needs_is_unneeded() -> None:
    role = reader(allow(["s3:GetObject", "s3:PutObject"], [f"{BUCKET}/runs/*"]))
    assert unneeded(role, GET) == ["s3:PutObject on arn:aws:s3:::BUCKET/runs/*"]
    assert [str(grant) for grant in replay(role, [GET]).needed] == ["s3:GetObject on arn:aws:s3:::BUCKET/runs/*"]


def test_two_grants_that_cover_each_other_are_both_unneeded_and_said_to_be_covered() -> None:
    role = reader(allow("s3:GetObject", [f"{BUCKET}/runs/*", f"{BUCKET}/*"]))
    replayed = replay(role, [GET])
    assert replayed.needed == ()
    assert replayed.covered == replayed.unneeded == role.grants
    # The wider grant is needed as soon as a request is made that only it allows.
    replayed = replay(role, [GET, decision("s3:GetObject", f"{BUCKET}/uploads/1")])
    assert [grant.resource for grant in replayed.needed] == ["arn:aws:s3:::BUCKET/*"]
    assert [grant.resource for grant in replayed.covered] == ["arn:aws:s3:::BUCKET/runs/*"]


def test_the_same_grant_twice_is_removed_one_at_a_time() -> None:
    role = reader(allow("s3:GetObject", f"{BUCKET}/*"), allow("s3:GetObject", f"{BUCKET}/*"))
    assert len(replay(role, [GET]).covered) == 2


@pytest.mark.parametrize(
    ("condition", "context"),
    [
        ({"StringEquals": {"iam:PassedToService": "a"}}, {"iam:PassedToService": "a"}),
        ({"StringEquals": {"aws:ResourceTag/tuneway:stack": "x"}}, {"aws:ResourceTag/tuneway:stack": "x"}),
        ({"StringLike": {"s3:prefix": "runs/*"}}, {"s3:prefix": "runs/1"}),
        ({"Bool": {"aws:SecureTransport": "true"}}, {}),
    ],
)
def test_conditions_are_evaluated_with_the_logged_keys(condition: Any, context: Any) -> None:
    role = reader(allow("iam:PassRole", ROLE_ARN, **condition))
    question = decision("iam:PassRole", ROLE_ARN, **context)
    assert unneeded(role, question) == []
    if context:
        with pytest.raises(ProofError, match="do not reproduce"):
            replay(role, [decision("iam:PassRole", ROLE_ARN)])


def test_a_deny_stays_when_grants_are_removed() -> None:
    deny = {"Effect": "Deny", "Action": "s3:*", "Resource": f"{BUCKET}/secret/*"}
    role = reader(allow("s3:GetObject", f"{BUCKET}/*"), deny)
    refused = decision("s3:GetObject", f"{BUCKET}/secret/1", allowed=False)
    replayed = replay(role, [GET, refused])
    assert replayed.needed == role.grants
    assert [question["resource"] for question in replayed.denied] == [f"{BUCKET}/secret/1"]
    assert role.policy(without=role.grants[0])["Statement"] == [deny]


@pytest.mark.parametrize(
    "logged",
    [
        decision("s3:GetObject", f"{BUCKET}/runs/1", allowed=False),
        decision("s3:PutObject", f"{BUCKET}/runs/1"),
        {**decision("s3:PutObject", f"{BUCKET}/runs/1", allowed=False), "reason": "ExpiredToken"},
    ],
)
def test_a_log_that_the_policies_do_not_reproduce_voids_the_proof(logged: Any) -> None:
    role = reader(allow("s3:GetObject", f"{BUCKET}/runs/*"))
    replay(role, [GET])
    with pytest.raises(ProofError, match="Reader: the policies do not reproduce"):
        replay(role, [GET, logged])


def test_what_a_resource_policy_denied_is_set_aside() -> None:
    role = reader(allow("s3:GetObject", f"{BUCKET}/*"))
    closed = decision("s3:GetObject", f"{BUCKET}/runs/1", allowed=False) | {"reason": RESOURCE_POLICY}
    replayed = replay(role, [closed])
    assert [question["action"] for question in replayed.refused] == ["s3:GetObject"]
    assert (replayed.denied, replayed.unneeded) == ((), role.grants)


def test_only_the_roles_own_sessions_count_and_each_question_once() -> None:
    role = reader(allow("s3:GetObject", f"{BUCKET}/*"))
    others = decision("s3:GetObject", f"{BUCKET}/runs/1", role="stack-ReaderRole-12")
    root = {**GET, "principal": "arn:aws:iam::000000000000:root"}
    questions = asked(role, [GET, {**GET, "time": 2.0}, others, root])
    assert [question["count"] for question in questions] == [2]
    assert used(role, questions) == {0: questions}


def test_a_statement_that_cannot_be_split_is_refused() -> None:
    with pytest.raises(ProofError, match="cannot split"):
        reader({"Effect": "Allow", "NotAction": "s3:GetObject", "Resource": "*"})


def test_services_that_assumed_a_role_are_told_with_their_source() -> None:
    job = "arn:aws:sagemaker:x:000000000000:training-job/1"
    trust = {**decision("sts:AssumeRole", ROLE_ARN), "principal": "sagemaker.amazonaws.com"}
    lines = [{**trust, "context": {"aws:sourcearn": job}}] * 2
    lines += [trust | {"allowed": False}, {**trust, "resource": f"{ROLE_ARN}2"}]
    service = "sagemaker.amazonaws.com"
    assert assumed([reader()], [*lines, GET]) == [
        Assumed("Reader", service, "", False, 1),
        Assumed("Reader", service, job, True, 2),
    ]


PUT = "s3:PutObject on arn:aws:s3:::BUCKET/*"


def reported(capsys: pytest.CaptureFixture[str], log: list[Any], *listed: str) -> tuple[bool, list[str]]:
    """Return the report's result on a role that may get and put, and its lines between the trust and the totals."""
    role = reader(allow(["s3:GetObject", "s3:PutObject"], f"{BUCKET}/*"))
    trust = {**decision("sts:AssumeRole", ROLE_ARN), "principal": "lambda.amazonaws.com"}
    entry = Unused("Reader", listed, "why", "where")
    success = roles.report([role], [trust, *log], listed=[entry] if listed else [])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith(": held" if success else ": broken")
    return success, lines[lines.index("assumed by: lambda.amazonaws.com: Reader") + 1 : -1]


def test_the_report_holds_when_the_list_names_just_what_was_not_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert reported(capsys, [GET], PUT) == (True, [])
    assert reported(capsys, [GET]) == (False, [f"Reader: not needed: {PUT}"])
    put = decision("s3:PutObject", f"{BUCKET}/1")
    assert reported(capsys, [GET, put], PUT) == (False, [f"Reader: listed, but needed: {PUT}"])
    stale = "s3:PutObject on *"
    assert reported(capsys, [GET, put], stale) == (False, [f"Reader: listed, but no grant: {stale}"])
    denied = decision("s3:ListBucket", BUCKET, allowed=False)
    assert reported(capsys, [GET, denied, denied], PUT) == (
        False,
        [f"Reader: denied 2 times: s3:ListBucket on {BUCKET}"],
    )


def test_a_role_that_nobody_assumed_or_that_is_only_listed_breaks_it(capsys: pytest.CaptureFixture[str]) -> None:
    role = reader(allow("s3:GetObject", f"{BUCKET}/*"))
    assert not roles.report([role], [GET], listed=[])
    assert "Reader: never assumed" in capsys.readouterr().out.splitlines()
    # But not if none of its grants was needed.
    assert roles.report([role], [], listed=[Unused("Reader", (str(role.grants[0]),), "why", "where")])
    assert not roles.report([], [], listed=[Unused("Gone", ("s3:GetObject on *",), "why", "where")])
    assert "Gone: listed, but no role" in capsys.readouterr().out.splitlines()


def test_every_entry_of_the_list_says_why_and_where_and_no_grant_stands_there_twice() -> None:
    named = [(entry.role, grant) for entry in UNUSED for grant in entry.grants]
    assert len(named) == len(set(named))
    assert all(entry.reason and entry.source and entry.grants for entry in UNUSED)


ACTIONS = st.sampled_from(["s3:GetObject", "s3:PutObject"])
RESOURCES = st.sampled_from(["runs/1", "runs/2", "uploads/1"]).map(f"{BUCKET}/{{}}".format)
STATEMENTS = st.builds(
    lambda effect, actions, resources, key: {
        "Effect": effect,
        "Action": actions,
        "Resource": resources,
        **({"Condition": {"StringEquals": {"s3:prefix": key}}} if key else {}),
    },
    st.sampled_from(["Allow", "Allow", "Allow", "Deny"]),
    st.lists(st.sampled_from(["s3:GetObject", "s3:PutObject", "s3:*"]), min_size=1, max_size=2, unique=True),
    st.lists(st.sampled_from([f"{BUCKET}/runs/*", f"{BUCKET}/*/1", "*"]), min_size=1, max_size=2, unique=True),
    st.sampled_from([None, None, ["a"], ["a", "b"]]),
)
QUESTIONS = st.builds(
    lambda action, resource, key: decision(action, resource, **({"s3:prefix": key} if key else {})),
    ACTIONS,
    RESOURCES,
    st.sampled_from([None, "a", "b"]),
)


@given(st.lists(STATEMENTS, min_size=1, max_size=4), st.lists(QUESTIONS, max_size=8))
def test_splitting_changes_no_decision_and_needed_is_what_a_removal_denies(
    statements: list[dict[str, Any]], questions: list[dict[str, Any]]
) -> None:
    unsplit = {"Version": "2012-10-17", "Statement": statements}
    log = [{**question, "allowed": evaluate([unsplit], question)} for question in questions]
    role = reader(*statements)
    replayed = replay(role, log)
    assert len(replayed.needed) + len(replayed.unneeded) == len(role.grants)
    for grant in role.grants:
        denied = [q for q in log if q["allowed"] and not evaluate([role.policy(without=grant)], q)]
        assert bool(denied) is any(grant is needed for needed in replayed.needed)
