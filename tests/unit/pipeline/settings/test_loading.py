"""The schema: what is accepted, and that each refusal names the field and what is allowed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from hypothesis import given
from hypothesis import strategies as st

from pipeline import settings as schema
from pipeline.settings.hub_name import is_hub_name

ROOT = Path(__file__).resolve().parents[4]
CONFIG = ROOT / "config.yaml"


SIX_TYPES = [f"ml.g5.{size}xlarge" for size in (2, 4, 8, 12, 16, 24)]


@pytest.fixture(scope="module")
def deployed() -> dict[str, Any]:
    return schema.load(CONFIG).model_dump(mode="json")


def test_an_empty_input_keeps_the_deployed_settings(deployed: dict[str, Any]) -> None:
    assert schema.with_run_input(deployed, {}).model_dump(mode="json") == deployed


def test_a_partial_input_changes_only_what_it_names(deployed: dict[str, Any]) -> None:
    changed = schema.with_run_input(deployed, {"training": {"lora": {"r": 8}}, "Comment": "from the console"})
    assert changed.training.lora.r == 8
    assert changed.training.lora.alpha == deployed["training"]["lora"]["alpha"]
    assert changed.dataset.model_dump(mode="json") == deployed["dataset"]


@pytest.mark.parametrize("types", ["ml.g6.xlarge", ["ml.g6.xlarge"], SIX_TYPES[:5]])
def test_instance_types_are_one_or_a_list_and_are_kept_as_a_list(deployed: dict[str, Any], types: Any) -> None:
    listed = [types] if isinstance(types, str) else types
    for part in ("training", "endpoint"):
        changed = schema.with_run_input(deployed, {part: {"instance_types": types}}).model_dump(mode="json")
        assert changed[part]["instance_types"] == listed
        assert schema.with_run_input(changed, {}).model_dump(mode="json") == changed


def test_spot_capacity_is_of_one_type_also_where_it_is_written_as_a_list(deployed: dict[str, Any]) -> None:
    assert schema.with_run_input(
        deployed, {"training": {"instance_types": ["ml.g6.xlarge"], "spot": True}}
    ).training.spot


@pytest.mark.parametrize("layers", ["all-linear", ["q_proj"], ["model.layers.0.mlp.up_proj", "v_proj"]])
def test_layers_are_a_list_of_names_or_the_one_word(deployed: dict[str, Any], layers: Any) -> None:
    changed = schema.with_run_input(deployed, {"training": {"lora": {"target_modules": layers}}})
    assert changed.training.lora.target_modules == layers
    assert changed.model_dump(mode="json")["training"]["lora"]["target_modules"] == layers


@pytest.mark.parametrize(
    ("given_input", "expected"),
    [
        ({"trainin": {}}, r"trainin: unknown field; allowed here: stack, .*training"),
        (
            {"endpoint": {"only_if_better": True, "promot": "better"}},
            r"input: endpoint\.only_if_better is now endpoint\.promote: better \(which true was\), always",
        ),
        ({"endpoint": {"promote": True}}, r"endpoint\.promote: .*'always', 'better' or 'clearly_better', not True"),
        ({"training": {"evaluation": {"max_faulty_share": 2}}}, r"max_faulty_share: .*less than or equal to 1, not 2"),
        ({"a\nb": {}}, r"a\\nb: unknown field; allowed here: stack"),
        ({"training": {"lora": {"rank": 8}}}, r"training\.lora\.rank: unknown field; allowed here: r, alpha"),
        ({"stack": {"name": "other"}}, r"stack\.name: is fixed when the stack is deployed; edit config\.yaml"),
        ({"functions": {"python": "3.12"}}, r"functions\.python: is fixed when the stack is deployed"),
        (
            {"training": {"learning_rate": "2e-4"}},
            r"learning_rate: .*number, not '2e-4'; write 0\.0002, without quotes",
        ),
        (
            {"bedrock": {"hyperparameters": {"epochCount": "2"}}},
            r"epochCount: must be a number, without quotes, not '2'$",
        ),
        ({"bedrock": {"hyperparameters": {"epochCount": True}}}, r"hyperparameters\.epochCount: must be a number, "),
        ({"training": {"epochs": "3"}}, r"epochs: .*integer, not '3'; write 3$"),
        ({"training": {"gated": "no"}}, r"gated: .*boolean, not 'no'; write false$"),
        ({"training": None}, r"training: must be an object with fields of base_model"),
        ({"training": {"lora": {"target_modules": ["a" * 2501]}}}, r"of 2500 characters .*, not \['a{78}\.\.\.$"),
        *(
            ({"training": {"base_model": name}}, rf"base_model: must be OWNER/NAME on the Hub, .*, not '{name[:20]}")
            for name in (
                "own/.x",
                "own/a..b",
                "./own/x",
                "https://huggingface.co/own/x",
                "own/a--b",
                "own/x.git",
                "own/x-",
                f"own/{'a' * 97}",
            )
        ),
        *(
            ({"dataset": {"source": f"hub:{name}"}}, r"dataset\.source: must be hub:OWNER/NAME")
            for name in ("own/-x", "own/a--b", "a/b/c")
        ),
        ({"training": {"epochs": 1.5}}, r"training\.epochs: .*integer"),
        ({"training": {"epochs": 0}}, r"training\.epochs: .*greater than or equal to 1, not 0"),
        (
            {"training": {"instance_types": "ml.m5.xlarge"}},
            r"training: instance_types: ml\.m5\.xlarge has no NVIDIA GPU that .*; choose another, .* or set device to cpu",
        ),
        (
            {"training": {"instance_types": ["ml.g5.xlarge", "ml.p3.2xlarge"]}},
            r"instance_types: the GPU of ml\.p3\.2xlarge \(V100\) is older than Turing, .*; choose another, such as ml\.g5",
        ),
        ({"training": {"device": "tpu"}}, r"training\.device: .*'gpu' or 'cpu', not 'tpu'"),
        *(
            (
                {"endpoint": {"instance_types": kind}},
                rf"endpoint: instance_types: {kind} has no NVIDIA GPU that .*; choose another, such as ml\.g5\.xlarge",
            )
            for kind in ("ml.inf2.xlarge", "ml.t2.medium", "ml.trn1.2xlarge", "ml.g4ad.xlarge", "ml.g5g.xlarge")
        ),
        ({"training": 3}, r"training: must be an object with fields of base_model"),
        *(
            (
                {"dataset": {"source": wrong}},
                rf"dataset\.source: must be hub:OWNER/NAME .*, s3://BUCKET/KEY, .* is a folder, not '{wrong}'",
            )
            for wrong in ("ftp://x", "s3://bucket", "s3://b/c.csv", "hub:samsum", "own/set", "uploads/", "uploads")
        ),
        ({"dataset": {"gated": True, "source": "uploads/a.csv"}}, r"dataset: gated: only a Hub dataset .* to false"),
        ({"dataset": {"gated": "yes"}}, r"dataset\.gated: .*boolean, not 'yes'"),
        (
            {"dataset": {"files": "train.csv"}},
            r"dataset\.files: must be an object with fields of train, validation, test",
        ),
        ({"dataset": {"files": {"dev": "a"}}}, r"dataset\.files\.dev: unknown field; allowed here: train, valid"),
        ({"dataset": {"files": {"train": ""}}}, r"dataset\.files\.train: .*at least 1 character"),
        ({"dataset": {"files": {"test": ["a.csv"]}}}, r"dataset\.files\.test: .*valid string, not \['a.csv'\]"),
        *(
            (
                {"dataset": {"files": {"test": wrong}}},
                r"dataset\.files\.test: must be a path below dataset\.source, without /",
            )
            for wrong in ("/a.csv", "../a.csv", "a/../b.csv", "./a.csv")
        ),
        ({"dataset": {"max_rejected_share": 5}}, r"dataset\.max_rejected_share: .*less than or equal to 1, not 5"),
        ({"dataset": {"max_rejected_share": -0.1}}, r"dataset\.max_rejected_share: .*greater than or equal to 0"),
        ({"dataset": {"shard_mb": 0}}, r"dataset\.shard_mb: .*greater than or equal to 1, not 0"),
        ({"dataset": {"shard_mb": 0.5}}, r"dataset\.shard_mb: .*integer"),
        ({"dataset": {"revision": None}}, r"a Hub dataset needs dataset\.revision"),
        ({"dataset": {"instruction": "{% $plan %}"}}, r"dataset\.instruction: .* which Step Functions would evaluate"),
        ({"dataset": {"instruction": " \n"}}, r"dataset\.instruction: is not of the form"),
        ({"training": {"seed": 2**32}}, r"training\.seed: .*less than or equal to 4294967295"),
        ({"bedrock": {"base_model": "meta.llama3-2-1b-instruct-v1:0"}}, r"bedrock\.base_model: .*end of life"),
        ({"bedrock": {"base_model": "gpt-7"}}, r"bedrock\.base_model: not in the catalogue; use one of amazon"),
        (
            {"endpoint": {"max_model_len": 256}},
            r"input: endpoint\.max_model_len: 256 is less than training\.max_length",
        ),
        ({"encryption": {"kms_key_arn": None}}, r"encryption\.kms_key_arn: is fixed when the stack is deployed"),
        (
            {"training": {"base_model": "llama"}},
            r"training\.base_model: must be OWNER/NAME on the Hub, or uploads/models",
        ),
        (
            {"training": {"base_model": "uploads/llama"}},
            r"training\.base_model: must be OWNER/NAME .*, not 'uploads/llama'",
        ),
        ({"training": {"base_model": "uploads/models/mine"}}, r"training\.base_model: .*with its slash"),
        (
            {"training": {"base_model": "uploads/models/mine/"}},
            r"training: gated: no token is needed .* set it to false",
        ),
        *(
            (
                {"training": {"lora": {"target_modules": wrong}}},
                r"target_modules: must be a list of layer names .*, not ",
            )
            for wrong in ("q_proj", [], "", None, 3, ["all-linear"], ["q_proj,v_proj"], [1], ["q_proj", None])
        ),
        ({"training": {"instance_count": 0}}, r"training\.instance_count: .*greater than or equal to 1, not 0"),
        ({"training": {"instance_count": 17}}, r"training\.instance_count: .*less than or equal to 16, not 17"),
        *(
            (
                {part: {"instance_types": wrong}},
                rf"{part}\.instance_types: must be an instance type such as ml\.g5\.xlarge, or a list in order of",
            )
            for part in ("training", "endpoint")
            for wrong in ("g5.xlarge", [], ["ml.g5.xlarge", "g6"], ["ml.g5.xlarge"] * 2, None, 3, [None], SIX_TYPES)
        ),
        (
            {"training": {"instance_types": ["ml.g5.xlarge", "ml.g6.xlarge"], "spot": True}},
            r"training: spot: SageMaker takes spot capacity of one instance type only; set it to false, or",
        ),
        *(
            (
                {part: {"instance_type": "ml.g5.xlarge"}},
                rf"input: {part}\.instance_type is now {part}\.instance_types: one type, or a list in order of preference$",
            )
            for part in ("training", "endpoint")
        ),
        ({"endpoint": {"instance_count": 0}}, r"endpoint\.instance_count: .*greater than or equal to 1, not 0"),
        ({"endpoint": {"instance_count": 11}}, r"endpoint\.instance_count: .*less than or equal to 10, not 11"),
        ({"training": {"checkpoint_steps": 0}}, r"training\.checkpoint_steps: .*greater than or equal to 1, not 0"),
        ({"training": {"spot": "yes"}}, r"training\.spot: .*boolean, not 'yes'"),
        ({"training": {"spot_wait_minutes": 0}}, r"training\.spot_wait_minutes: .*greater than or equal to 1, not 0"),
        ({"training": {"packing": 1}}, r"training\.packing: .*boolean, not 1"),
        ([], r"must be a JSON object"),
        ("{}", r"must be a JSON object"),
        (None, r"must be a JSON object"),
    ],
)
def test_a_wrong_input_is_refused_in_one_line(deployed: dict[str, Any], given_input: Any, expected: str) -> None:
    with pytest.raises(schema.SettingsError, match=expected) as refused:
        schema.with_run_input(deployed, given_input)
    assert str(refused.value).startswith("execution input")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "dataset",
    [
        {"source": "hub:own/set", "gated": True},
        {"source": "s3://my-bucket/a b/ü.jsonl", "files": {"train": None, "test": "data/test-*.parquet"}},
        {"source": "uploads/a/", "files": {"train": "a..b/train", "validation": "dev", "test": "x/"}},
        {"max_rejected_share": 0, "shard_mb": 1},
    ],
)
def test_a_dataset_is_taken_as_it_is_written(deployed: dict[str, Any], dataset: dict[str, Any]) -> None:
    changed = schema.with_run_input(deployed, {"dataset": dataset}).dataset.model_dump(mode="json")
    assert changed == schema.overlay(deployed["dataset"], dataset)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_known = st.sampled_from(["training", "dataset", "bedrock", "endpoint", "stack", "lora", "epochs", "source"])


@given(given_input=st.dictionaries(_known, st.dictionaries(_known, _json, max_size=3) | _json, max_size=4) | _json)
def test_any_input_is_accepted_or_refused_in_one_line(given_input: Any) -> None:
    settings = schema.load(CONFIG).model_dump(mode="json")
    try:
        schema.with_run_input(settings, given_input)
    except schema.SettingsError as refused:
        assert "\n" not in str(refused)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a list", "must be a mapping of sections"),
        ("dataset: [", "line 1 is not YAML (expected the node content, but found '<stream end>'); mend it: indent by"),
        (
            "dataset:\n  instruction: Sum up: shortly",
            "line 2 is not YAML (mapping values are not allowed here); mend it",
        ),
        (
            "dataset:\n\tseed: 1",
            "line 2 is not YAML (found character '\\t' that cannot start any token); mend it: indent",
        ),
        ("dataset:\n  source: *x", "line 2 is not YAML (found undefined alias 'x'); mend it"),
        ("dataset: {}\n---\ndataset: {}", "line 2 is not YAML (but found another document)"),
        (
            "dataset: {seed: 1}\nstack: {}\ndataset: {seed: 1}",
            "line 3: dataset stands twice, first in line 1; keep one",
        ),
        ("stack:\n  tags:\n    a: b\n    a: c", "line 4: a stands twice, first in line 3; keep one of them"),
        ("stack: {tags: {a: b\x07}}", "line 1 holds the control character U+0007; remove it"),
        *(
            (f"training: {{{value}}}", "has a value that is not what its tag (!!int, !!float ...) says")
            for value in (
                "epochs: !!int x",
                "gated: !!bool x",
                "learning_rate: !!float x",
                "lora: !!map [1]",
                f"seed: {'9' * 5000}",
            )
        ),
        ("training: " + "[" * 30000, "brackets too deep; write the value"),
        ("training: {true: 1}", "training.1: unknown field; allowed here: base_model"),
        ("training: {epochs: {a: 1}}", "training.epochs: Input should be a valid integer; write a whole number"),
        ("dataset: {files: {train: [a.csv]}}", "not ['a.csv']; write one text"),
        ("access: {dataset_buckets: mine}", "not 'mine'; write a list such as [my-bucket]"),
        ("stack: {tags: [a]}", "not ['a']; write names with values, such as {name: value}"),
        ("training:", "training: must hold fields of base_model, "),
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
            "stack.tags.a: is not of the form that it needs (tags on everything, for your cost",
        ),
        *(
            (
                f"stack: {{tags: {{a: '{value}'}}}}",
                f"stack.tags.a: is not of the form that it needs (tags on everything, for your "
                f"cost reports; of letters, digits, blanks and _ . : / = + - @), not '{value}'",
            )
            for value in ("metal,openstack", "{var.team}", "https://a/?gr=1&b=2", "19%3a", 'say "x"')
        ),
        ("stack: {tags: {'': b}}", "stack.tags.: String should have at least 1 character"),
        ("stack: {tags: {aws:a: b}}", "the keys that begin with aws: and tuneway: are taken; call 'aws:a' otherwise"),
        ("stack: {tags: {A: b, a: c}}", "'A' and 'a' are one key to IAM, which does not mind the case; keep one"),
        ("stack: {tags: {a: Köln}}", "stack.tags: Bedrock takes only a to z, digits, "),
        (
            f"stack: {{tags: {{{', '.join(f'a{n}: b' for n in range(48))}}}}}",
            "stack.tags: Dictionary should have at most 47",
        ),
        ("training: {max_steps: 1e1}", "training.max_steps: Input should be a valid integer, not 1e1; write 10"),
        ("training: {epochs: 1.5}", "not 1.5; write a whole number"),
        ("training: {epochs: yes}", "not 'yes'; write a whole number"),
        ("training: {gated: yes}", "training.gated: Input should be a valid boolean, not 'yes'; write true"),
        ("training: {learning_rate: .nan}", "not '.nan'; write a number"),
        ("stack: {region: oregon}", "not 'oregon'; write for example us-west-2"),
        ("stack: {nam: x}", "stack.nam: unknown field; allowed here: name, region, tags"),
        ("endpoint: {time_to_live_minutes: '60'}", "endpoint.time_to_live_minutes"),
        *((f"{old.replace('.', ': {')}: x}}", f"mine.yaml: {old} is now {now}") for old, now in schema.RENAMED.items()),
        ("stack: {name: Tuneway_1}", "stack.name"),
        ("stack: {name: my--stack}", "stack.name"),
        ("stack: {name: a-name-of-25-characters-x}", "stack.name"),
        ("endpoint: {time_to_live_minutes: 29}", "endpoint.time_to_live_minutes"),
        ("encryption: {kms_key_arn: alias/mine}", "encryption.kms_key_arn"),
        ("network: {subnets: [subnet-1]}", "network: subnets and security_groups: a VPC needs both"),
        ("network: {security_groups: [sg-1]}", "network: subnets and security_groups: a VPC needs both"),
        ("network: {wheels: uploads/wheels}", "network.wheels"),
        ("network: {isolation: true}", "network.isolation: an isolated training job reaches neither the Hub nor PyPI"),
        ("storage: {expire_days: 1}", "storage.expire_days"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(schema.SettingsError, match=r"mine\.yaml") as refused:
        schema.load(CONFIG, path)
    assert expected in str(refused.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("2E-5", 2e-5),
        ("1.e-3", 1e-3),
        (".5", 0.5),
        ("1", 1),
    ],
)
def test_a_number_is_taken_as_it_is_usually_written(tmp_path: Path, text: str, value: float) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"training:\n  learning_rate: {text}\nbedrock:\n  hyperparameters:\n    learningRate: {text}\n")
    loaded = schema.load(CONFIG, path)
    assert loaded.training.learning_rate == loaded.bedrock.hyperparameters["learningRate"] == value
    assert repr(loaded.training.learning_rate) == repr(float(value))
    assert repr(loaded.bedrock.hyperparameters["learningRate"]) == repr(value)
    assert schema.Settings.model_validate(loaded.model_dump(mode="json")) == loaded


@pytest.mark.parametrize("text", ["0123456789", "2026-01-01", "1:30", "no", "1_000", "0x1f", "on", "1.2.3"])
def test_what_yaml_1_1_would_make_something_else_of_stays_a_text(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"stack: {{tags: {{{text}: {text}}}}}")
    assert schema.load(CONFIG, path).stack.tags == {text: text}


def test_a_tag_that_bedrock_does_not_take_is_one_where_no_bedrock_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("stack: {tags: {Straße: Köln}}\nbedrock: {enabled: false}", encoding="utf-8")
    deployed = schema.load(CONFIG, path).model_dump(mode="json")
    with pytest.raises(schema.SettingsError, match=r"Bedrock takes only a to z.*or set bedrock\.enabled to false"):
        schema.with_run_input(deployed, {"bedrock": {"enabled": True}})


def test_a_file_of_another_encoding_is_refused_and_one_with_a_byte_order_mark_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("training: {epochs: 3}", encoding="utf-16")
    with pytest.raises(schema.SettingsError, match=r"mine\.yaml: is not UTF-8 \(.*\); save it in that encoding"):
        schema.load(CONFIG, path)
    path.write_text("training: {epochs: 3}", encoding="utf-8-sig")
    assert schema.load(CONFIG, path).training.epochs == 3


def _texts(values: dict[str, Any], *above: str) -> list[tuple[str, ...]]:
    """The path of every field that holds a text, or a list or mapping of texts."""
    found = []
    for name, value in values.items():
        if isinstance(value, dict) and name not in ("tags", "hyperparameters"):
            found += _texts(value, *above, name)
        elif not isinstance(value, (bool, int, float)):
            found.append((*above, name))
    return found


BROKEN = ("a\ud83d", "a\x00", "a\x9f")


@pytest.mark.parametrize("broken", BROKEN)
def test_a_text_that_no_service_takes_is_refused_in_every_field(deployed: dict[str, Any], broken: str) -> None:
    paths = _texts(deployed)
    assert len(paths) > 30
    for *above, name in paths:
        for value in (broken, [broken], {broken: "b"}, {"a": broken}, f"uploads/{broken}/", f"s3://abc/{broken}"):
            given: Any = {name: value}
            for section in reversed(above):
                given = {section: given}
            with pytest.raises(schema.SettingsError, match=rf"^x: .*{name}"):
                schema.validate(schema.overlay(deployed, given), "x")


@given(st.text("ab.-_/ü", max_size=8) | st.text("ab-.", min_size=90, max_size=100))
def test_a_name_on_the_hub_is_one_that_its_client_library_takes(name: str) -> None:
    for whole in (f"own/{name}", f"{name}/name"):
        try:
            validate_repo_id(whole)
        except HFValidationError:
            assert not is_hub_name(whole)
        else:
            assert is_hub_name(whole) or len(name) > 96


def test_every_number_has_bounds_and_every_form_an_example_that_has_it() -> None:
    def look(model: type[Any]) -> None:
        for inner in schema.sections(model).values():
            look(inner)
        for name, info in model.model_fields.items():
            limits = [type(limit).__name__ for limit in info.metadata]
            if info.annotation in (int, int | None):
                assert {"Ge", "Le"} <= set(limits), name
            patterns = [p for limit in info.metadata if (p := getattr(limit, "pattern", None))]
            assert not patterns or name == "instruction" or re.search(patterns[0], info.examples[0]), name

    look(schema.Settings)


ISOLATED = (
    "network: {isolation: true, wheels: uploads/wheels/}\ntraining: {base_model: uploads/models/mine/, gated: false}"
)


def test_an_isolated_stack_refuses_a_run_that_needs_the_hub(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(ISOLATED)
    deployed = schema.load(CONFIG, path).model_dump(mode="json")
    assert schema.with_run_input(deployed, {}).training.is_uploaded
    with pytest.raises(
        schema.SettingsError, match=r"^execution input: network\.isolation: .* set training\.base_model to"
    ):
        schema.with_run_input(deployed, {"training": {"base_model": "owner/name"}})


def test_a_renamed_key_is_none_of_the_schema_and_its_new_name_is() -> None:
    for old, now in schema.RENAMED.items():
        leaves = _leaves(schema.Settings)
        assert (old in leaves, now.partition(":")[0] in leaves) == (False, True), old


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(schema.SettingsError, match=r"nowhere\.yaml: cannot be read"):
        schema.load(Path("nowhere.yaml"))


def _leaves(model: type[Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    inner = schema.sections(model)
    for name, info in model.model_fields.items():
        if name in inner:
            found |= _leaves(inner[name], f"{above}{name}.")
        else:
            found[f"{above}{name}"] = (info.description, schema.scope(model, name))
    return found


def test_every_field_is_described_and_has_a_scope_that_config_yaml_shows() -> None:
    text = CONFIG.read_text()
    marks: dict[str, str] = {}
    path: list[str] = []
    scope = ""
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        path = [*path[:depth], line.split(":")[0].strip()]
        mark = line.split("# [", 1)[1].split("]")[0] if "# [" in line else None
        # A section's mark holds for what is inside it.
        scope = mark or (scope if depth > 1 else "")
        marks[".".join(path)] = scope
    for name, (description, field_scope) in _leaves(schema.Settings).items():
        assert description, name
        shown = marks.get(name) or marks[name.rsplit(".", 1)[0]]
        assert shown == field_scope, name


def test_the_local_settings_are_ordinary_settings() -> None:
    layer = yaml.safe_load((ROOT / "local" / "settings.yaml").read_text())
    assert set(layer) <= set(schema.Settings.model_fields)
    assert schema.load(CONFIG, ROOT / "local" / "settings.yaml").training.gated is False


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "~", " "])
@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-8", "utf-16", "shift_jis", "gb18030"])
def test_how_csv_files_are_written_may_be_said(deployed: dict[str, Any], separator: str, encoding: str) -> None:
    csv = schema.with_run_input(
        deployed, {"dataset": {"csv": {"separator": separator, "encoding": encoding}}}
    ).dataset.csv
    assert (csv.separator, csv.encoding) == (separator, encoding)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"separator": ""}, 'dataset.csv.separator: must be null or one ASCII character such as ";"'),
        ({"separator": "tab"}, "must be null or one ASCII character"),
        ({"separator": "\x01"}, "no quote, line end or control character; write the file with one of these"),
        ({"separator": '"'}, "must be null or one ASCII character"),
        ({"separator": "\n"}, "must be null or one ASCII character"),
        ({"separator": "¦"}, "must be null or one ASCII character"),
        ({"encoding": "windows"}, "dataset.csv.encoding: must be null or a text encoding of Python's, such as cp1252"),
        ({"encoding": "hex"}, "must be null or a text encoding of Python's"),
        ({"encoding": ""}, "must be null or a text encoding of Python's"),
        ({"encoding": "\0"}, "must be null or a text encoding of Python's"),
    ],
)
def test_a_separator_or_encoding_that_is_none_is_refused(
    deployed: dict[str, Any], given: dict[str, str], expected: str
) -> None:
    with pytest.raises(schema.SettingsError) as refused:
        schema.with_run_input(deployed, {"dataset": {"csv": given}})
    assert expected in str(refused.value)


def test_one_column_for_both_texts_is_refused(deployed: dict[str, Any]) -> None:
    with pytest.raises(
        schema.SettingsError, match=r"dataset\.fields: dialogue and summary are both 'a': a model would"
    ):
        schema.with_run_input(deployed, {"dataset": {"fields": {"dialogue": "a", "summary": "a"}}})
    with pytest.raises(schema.SettingsError, match=r"are both 'x{39}\.\.\.x{38}': a model would"):
        schema.with_run_input(deployed, {"dataset": {"fields": {"dialogue": "x" * 500, "summary": "x" * 500}}})
