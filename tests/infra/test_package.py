"""The functions' packages as `make setup` builds them: for Lambda's Python and machine, and run without any other package.

There are two kinds: those of config.yaml, for AWS, and those of this machine, for local AWS. Only the second can be imported
here.
"""

from __future__ import annotations

import ast
import json
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from infra import package
from infra.functions import code
from pipeline.settings import FunctionsSettings, Settings, SettingsError, load

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config.yaml"
HERE = {
    "python": f"3.{sys.version_info.minor}",
    "architecture": "arm64" if platform.machine() == "aarch64" else "x86_64",
}
MACHINES = {"arm64": 183, "x86_64": 62}
DIALOGUES = ["Amanda: I baked cookies. 🍪\r\nJerry: Sure!", "", None, "A: " + "word " * 5000] * 50


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings with which the functions run on this machine. Their wheels are built."""
    layer = tmp_path_factory.mktemp("settings") / "settings.yaml"
    layer.write_text(json.dumps({"functions": HERE}))
    settings = load(CONFIG, layer)
    package.build(settings)
    return settings


@pytest.fixture(scope="module", params=["config.yaml", "here"])
def settings(request: pytest.FixtureRequest, here: Settings) -> Settings:
    settings = here if request.param == "here" else load(CONFIG)
    package.build(settings)
    return settings


def stage(name: str, settings: Settings, folder: Path) -> Path:
    """Unpack the zip of a package's functions, as Lambda does."""
    path, _ = package.pack(name, settings)
    shutil.unpack_archive(path, folder)
    return folder


@pytest.fixture(scope="module")
def staged(here: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stage("data_prep", here, tmp_path_factory.mktemp("task"))


def run(script: str, staged: Path, *arguments: object) -> Any:
    """Run `script` and return its `answer`.

    With -I -S, only this interpreter's standard library is there. -B is for /var/task, which is read-only.
    """
    start = f"import json, sys, time; sys.path[:0] = [{str(staged)!r}]\n"
    command = [sys.executable, "-I", "-S", "-B", "-c", f"{start}{script}\nprint(json.dumps(answer))"]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_wheels_are_the_pinned_ones_for_the_settings_python_and_machine(settings: Settings) -> None:
    for name in package.PACKAGES:
        folder = package.wheels(name, settings)
        package.check(name, folder, settings.functions)
        installed = {path.name.split("-")[0] for path in folder.glob("*.dist-info")}
        pins = (ROOT / name / "requirements.txt").read_text().splitlines()
        assert {line.split("==")[0] for line in pins if "==" in line} <= installed
    libraries = list(package.wheels("data_prep", settings).rglob("*.so*"))
    assert len(libraries) > 10
    headers = [path.read_bytes()[:20] for path in libraries]
    assert {int.from_bytes(header[18:20], "little") for header in headers} == {
        MACHINES[settings.functions.architecture]
    }


def test_existing_wheels_are_not_downloaded_again(settings: Settings) -> None:
    folders = [package.wheels(name, settings) for name in package.PACKAGES]
    before = [folder.stat().st_ino for folder in folders]
    package.build(settings)
    assert [folder.stat().st_ino for folder in folders] == before


def test_wheels_of_other_pins_are_not_deployed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built = package.wheels("data_prep", settings)
    monkeypatch.setattr(package, "ROOT", tmp_path)
    copy = package.wheels("data_prep", settings)
    copy.parent.mkdir(parents=True)
    copy.symlink_to(built)
    copy.with_name("data_prep.wheels.zip").symlink_to(built.with_name("data_prep.wheels.zip"))
    files = [Path("data_prep", "requirements.txt"), Path("constraints.txt")]
    (tmp_path / "data_prep").mkdir()
    for file in files:
        shutil.copy(ROOT / file, tmp_path / file)
    assert package.is_built("data_prep", settings)
    # orjson is named in requirements.txt; urllib3 comes with botocore, and only constraints.txt has its version.
    for file, pin in zip(files, ("orjson==3", "urllib3==2"), strict=True):
        (tmp_path / file).write_text((ROOT / file).read_text().replace(pin, pin[:-1] + "1"))
        with pytest.raises(SettingsError, match="make setup"):
            code("data_prep", settings)
        shutil.copy(ROOT / file, tmp_path / file)
    monkeypatch.setitem(package.SERVICES, "data_prep", ("s3",))
    with pytest.raises(SettingsError, match="make setup"):
        code("data_prep", settings)


def services(name: str) -> set[str]:
    """The services that a package makes clients of: the first arguments of what is called `client` or `..._client`."""
    found = set()
    for path in (ROOT / name).rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        makers = [node for node in nodes if isinstance(node, ast.FunctionDef) and node.name.endswith("client")]
        passed_on = {id(node) for maker in makers for node in ast.walk(maker)}
        for node in nodes:
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("client"):
                match node.args:
                    case [ast.Constant(str(service)), *_]:
                        found.add(service)
                    case _ if id(node) not in passed_on and (node.args or node.keywords):
                        pytest.fail(f"{path}:{node.lineno}: the service is not a literal: is its data in the package?")
    return found


@pytest.mark.parametrize("name", package.PACKAGES)
def test_botocore_has_the_data_of_exactly_the_services_in_the_code(name: str, settings: Settings) -> None:
    assert set(package.SERVICES[name]) == services(name)
    data = package.wheels(name, settings) / "botocore" / "data"
    assert {path.name for path in data.iterdir() if path.is_dir()} == set(package.SERVICES[name])


IMPORTS = {
    "pipeline": "from boto3 import client as create_client",
    "data_prep": "import botocore.session; create_client = botocore.session.get_session().create_client",
}
CLIENTS = """
clients = {}
for service in sys.argv[1:]:
    client = create_client(service, region_name="us-west-2")
    methods = sorted(client.meta.method_to_api_mapping)
    paginated = [name for name in methods if client.can_paginate(name)]
    clients[service] = [client.meta.endpoint_url, methods, paginated, client.waiter_names]
own = [module.__file__ for name, module in sys.modules.items() if name.startswith(("boto3", "botocore"))]
answer = {"clients": clients, "files": own}
"""


@pytest.mark.parametrize("name", package.PACKAGES)
def test_every_client_is_made_from_the_zip_alone_and_equals_that_of_a_whole_botocore(
    here: Settings, tmp_path: Path, name: str
) -> None:
    folder = stage(name, here, tmp_path)
    answer = run(f"{IMPORTS[name]}\n{CLIENTS}", folder, *services(name))
    assert all(Path(file).is_relative_to(folder) for file in answer["files"])
    installed = Path(boto3.__file__).parents[1]
    whole = run(f"{IMPORTS['pipeline']}\n{CLIENTS}", installed, *services(name))
    assert answer["clients"] == whole["clients"]
    assert "list_objects_v2" in answer["clients"]["s3"][2]


@pytest.mark.parametrize(("name", "zip_bytes"), [("pipeline", 7_000_000), ("data_prep", 60_000_000)])
def test_the_zip_is_small_and_fits_into_lambda(settings: Settings, name: str, zip_bytes: int) -> None:
    path, _ = package.pack(name, settings)
    with zipfile.ZipFile(path) as archive:
        # Lambda's limit: 250 MB, which are MiB ("Lambda quotas").
        assert zip_bytes < sum(file.file_size for file in archive.infolist()) < 250 * 1024**2
    assert path.stat().st_size <= zip_bytes


def test_the_hash_of_a_zip_depends_only_on_its_content(
    here: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pipeline").mkdir()
    module = tmp_path / "pipeline" / "one.py"
    module.write_text("x = 1")
    wheels = package.wheels("pipeline", here)
    monkeypatch.setattr(package, "ROOT", tmp_path)
    shutil.copytree(wheels, package.wheels("pipeline", here))
    shutil.copy(wheels.with_name("pipeline.wheels.zip"), package.wheels("pipeline", here).parent)
    path, first = package.pack("pipeline", here)
    packed = path.read_bytes()
    module.touch()
    module.chmod(0o600)
    assert package.pack("pipeline", here) == (path, first)
    assert path.read_bytes() == packed
    module.write_text("x = 2")
    assert package.pack("pipeline", here)[1] != first


def test_a_function_starts_quickly_and_without_the_packages_for_parquet(staged: Path) -> None:
    script = """
start = time.process_time()
import data_prep.handler
seconds = time.process_time() - start
answer = {"seconds": seconds, "file": data_prep.handler.__file__, "modules": list(sys.modules)}
"""
    tries = [run(script, staged) for _ in range(5)]
    for answer in tries:
        assert Path(answer["file"]).is_relative_to(staged)
        assert {"botocore.session", "orjson", "data_prep.sources", "pipeline.source.hub"} <= set(answer["modules"])
        heavy = {"pyarrow", "zstandard", "numpy", "pydantic", "datasets", "boto3"}
        assert not heavy & set(answer["modules"])
    # CPU seconds of the fastest call, because other work on this machine only makes calls slower.
    assert min(answer["seconds"] for answer in tries) < 0.7


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
def test_parquet_is_read_with_the_packages_in_the_zip_alone(staged: Path, tmp_path: Path, codec: str) -> None:
    columns = {
        "id": pa.array(range(len(DIALOGUES))),
        "turns": pa.array([[{"who": "A", "said": ["x"]}]] * len(DIALOGUES)),
        "dialogue": pa.array(DIALOGUES, pa.large_string()),
        "summary": pa.array(DIALOGUES).dictionary_encode(),
    }
    for name, options in {"2.6": {}, "plain": {"use_dictionary": False, "data_page_version": "2.0"}}.items():
        file = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table(columns), file, compression=codec, row_group_size=60, **options)
        script = """
import io
from data_prep.parquet import read_columnar
from data_prep.row_formats import RowFormats
from pipeline.contracts.data import Fields, Piece
size = int(sys.argv[2])
piece = Piece("a.parquet", "train", size, None, 0, size)
with open(sys.argv[1], "rb", buffering=0) as file:
    formats = RowFormats(Fields("dialogue", "summary"))
    rows = [row[:2] for row in read_columnar(".parquet", file, None, piece, formats, lambda _: None)]
answer = {"rows": rows, "file": sys.modules["pyarrow"].__file__, "numpy": "numpy" in sys.modules}
"""
        answer = run(script, staged, file, file.stat().st_size)
        assert answer["rows"] == [[text, text] for text in DIALOGUES]
        assert Path(answer["file"]).is_relative_to(staged)
        assert not answer["numpy"]


def test_zstd_is_read_with_the_packages_in_the_zip_alone(staged: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.zst"
    file.write_bytes(zstandard.compress(b"one\n" * 1000) + zstandard.compress(b"two\n"))
    script = """
import zstandard
answer, packed = "", open(sys.argv[1], "rb").read()
while packed:
    frame = zstandard.ZstdDecompressor().decompressobj()
    answer += frame.decompress(packed).decode()
    packed = frame.unused_data
"""
    assert run(script, staged, file) == "one\n" * 1000 + "two\n"


def functions(**changes: str) -> FunctionsSettings:
    return FunctionsSettings.model_validate({"log_retention_days": 30, **HERE, **changes})


def test_wheels_for_another_python_machine_or_version_are_refused_in_one_line(staged: Path, tmp_path: Path) -> None:
    python = "3.12" if HERE["python"] != "3.12" else "3.13"
    with pytest.raises(package.PackageError, match=rf"\.so is not for Python {python}$"):
        package.check("data_prep", staged, functions(python=python))
    architecture = "x86_64" if HERE["architecture"] == "arm64" else "arm64"
    with pytest.raises(package.PackageError, match=f" is not for {architecture}$"):
        package.check("data_prep", staged, functions(architecture=architecture))
    with pytest.raises(package.PackageError, match=r"^the wheels of data_prep .*: No module named 'botocore'$"):
        package.check("data_prep", tmp_path, functions())
    (tmp_path / "orjson-3.8.0.dist-info").mkdir()
    (tmp_path / "orjson-3.8.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: orjson\nVersion: 3.8.0\n"
    )
    with pytest.raises(package.PackageError, match=r"^pip installed orjson 3\.8\.0; constraints\.txt says 3\.13\.0$"):
        package.check("data_prep", tmp_path, functions())
