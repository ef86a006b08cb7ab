"""The functions' zips, with wheels for Lambda's Python and architecture, without Docker: `python -m infra.package [SETTINGS]`.

`make setup` downloads and zips the wheels, so that synth needs no network. pip gets both platform tags. With manylinux2014
alone, it silently takes releases that are years old, from before a project moved to the newer tag.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

from pipeline.settings import FunctionsSettings, Settings, SettingsError, load

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "pipeline": "boto3, pydantic",
    "data_prep": "botocore.session, orjson, pyarrow.compute, pyarrow.parquet, xxhash, zstandard",
}
"""The packages whose requirements.txt becomes a function package's wheels, and the modules that they import from them."""

SERVICES = {
    "pipeline": (
        "bedrock",
        "bedrock-runtime",
        "cloudwatch",
        "events",
        "logs",
        "pricing",
        "s3",
        "sagemaker",
        "sagemaker-runtime",
        "scheduler",
        "secretsmanager",
        "service-quotas",
        "sns",
        "stepfunctions",
    ),
    "data_prep": ("s3", "secretsmanager"),
}
"""The services for which each package's code makes clients. botocore's data for all others is left out."""

_PRODUCT = {
    "pipeline": (
        *("pipeline", "training", "report", "config.schema.json"),
        *(f"node_modules/uplot/{name}" for name in ("dist/uPlot.iife.min.js", "dist/uPlot.min.css", "LICENSE")),
    ),
    "data_prep": ("data_prep", "pipeline", "training/messages.py"),
}
"""The product's own folders and files in each package, and the chart library of the report's page (package.json).

Plan copies the training code from its own package to the run's prefix; of that code data prep needs the form of a row alone."""

_MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}
_ELF_MACHINES = {"arm64": 183, "x86_64": 62}
"""e_machine of the ELF header: EM_AARCH64 and EM_X86_64 (elf.h)."""

_DROPPED = (
    # Files to build against pyarrow, and its tests.
    *("pyarrow/include", "pyarrow/includes", "pyarrow/src", "pyarrow/tests", "pyarrow/**/*.p[xy][dix]"),
    # Flight and pyarrow's own S3 client: 18 of 61 MB zipped. No other library can go: pyarrow.lib itself is linked with
    # compute, acero, dataset and substrait.
    *("pyarrow/*flight*", "pyarrow/*s3*"),
    # A wheel holds each library under three names, because its symbolic links are copies. The name with one number is linked.
    *("pyarrow/libarrow*.so", "pyarrow/libarrow*.so.*.*"),
    # The zstd module for PyPy.
    "zstandard/*cffi*",
    # boto3's resources, which no function uses, and the examples of its documentation.
    *("boto3/data", "boto3/examples", "botocore/data/*/*/examples-1.json"),
)
"""Files that are never loaded to read Parquet and zstd or to call AWS."""


class PackageError(Exception):
    """The installed wheels are not the requested ones. The message is one line."""


def wheels(package: str, settings: Settings) -> Path:
    """Return the folder of a package's wheels. There is one for each Python and architecture."""
    functions = settings.functions
    return ROOT / "build" / "functions" / f"python{functions.python}-{functions.architecture}" / package


def is_built(package: str, settings: Settings) -> bool:
    """Return whether the wheels of a package are there and zipped, for the present pins and services, and npm's files too."""
    files = all((ROOT / name).exists() for name in _PRODUCT[package] if name.startswith("node_modules/"))
    return files and _is_installed(package, wheels(package, settings)) and _zipped(package, settings).is_file()


def build(settings: Settings) -> None:
    """Install each package's pinned requirements into its folder and zip them, unless nothing has changed.

    Raises:
        PackageError: an installed wheel has another version, is for another Python or machine, or cannot be imported.
    """
    for package in PACKAGES:
        folder, zipped = wheels(package, settings), _zipped(package, settings)
        if not _is_installed(package, folder):
            zipped.unlink(missing_ok=True)
            _install(package, folder, settings.functions)
        if not zipped.is_file():
            unfinished = zipped.with_suffix(".unfinished")
            with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
                _add(archive, folder, folder)
            unfinished.replace(zipped)


def pack(package: str, settings: Settings) -> tuple[Path, str]:
    """Write the zip of a package's functions: its zipped wheels and the product's own folders, as they are now.

    Returns:
        The zip, and a SHA-256 of its contents, which does not depend on how this machine's zlib compresses them.
    """
    zipped = _zipped(package, settings)
    target = zipped.with_name(f"{package}.code.zip")
    unfinished = target.with_suffix(f".{os.getpid()}")  # another synth may run beside this one
    shutil.copyfile(zipped, unfinished)
    with zipfile.ZipFile(unfinished, "a", zipfile.ZIP_DEFLATED) as archive:
        for name in _PRODUCT[package]:
            _add(archive, ROOT / name, ROOT)
        contents = [(file.filename, file.file_size, file.CRC) for file in archive.infolist()]
    unfinished.replace(target)
    return target, hashlib.sha256(repr(contents).encode()).hexdigest()


def _zipped(package: str, settings: Settings) -> Path:
    return wheels(package, settings).with_name(f"{package}.wheels.zip")


def _add(archive: zipfile.ZipFile, folder: Path, root: Path) -> None:
    """Add the files of `folder`, or that one file, by their names below `root`, with fixed dates and modes."""
    for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
        name = path.relative_to(root)
        if path.is_file() and not {"__pycache__", "bin"} & set(name.parts):
            file = zipfile.ZipInfo(name.as_posix())
            file.external_attr = 0o644 << 16  # Lambda's own user must be able to read it
            archive.writestr(file, path.read_bytes(), zipfile.ZIP_DEFLATED)


def _is_installed(package: str, folder: Path) -> bool:
    marker = folder / "requirements.txt"
    return (
        marker.is_file() and marker.read_text(encoding="utf-8") == _contents(package) and _wrong_version(folder) is None
    )


def _install(package: str, folder: Path, functions: FunctionsSettings) -> None:
    machine = _MACHINES[functions.architecture]
    unfinished = folder.with_name(f"{package}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={functions.python}"]
    command += [f"--platform=manylinux2014_{machine}", f"--platform=manylinux_2_28_{machine}"]
    command += [f"--requirement={ROOT / package / 'requirements.txt'}", f"--constraint={ROOT / 'constraints.txt'}"]
    subprocess.run([*command, f"--target={unfinished}"], check=True)
    _slim(package, unfinished)
    check(package, unfinished, functions)
    (unfinished / "requirements.txt").write_text(_contents(package), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def check(package: str, folder: Path, functions: FunctionsSettings) -> None:
    """Compare the wheels in `folder` with the pins. Import them if this interpreter and machine are like Lambda's.

    Raises:
        PackageError: the first fault.
    """
    wrong = _wrong_version(folder)
    if wrong is not None:
        raise PackageError(wrong)
    _check_binaries(folder, functions)
    here = (sys.platform, f"3.{sys.version_info.minor}", platform.machine())
    if here == ("linux", functions.python, _MACHINES[functions.architecture]):
        _check_imports(package, folder)


def _contents(package: str) -> str:
    pins = (ROOT / package / "requirements.txt").read_text(encoding="utf-8")
    return f"{pins}# without {' '.join(_DROPPED)}\n# with botocore's data of {' '.join(SERVICES[package])}\n"


def _slim(package: str, folder: Path) -> None:
    for pattern in _DROPPED:
        for path in list(folder.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    # Each service has a folder. The files beside the folders (endpoints, partitions, retries) serve all services.
    for path in (folder / "botocore" / "data").iterdir():
        if path.is_dir() and path.name not in SERVICES[package]:
            shutil.rmtree(path)


def _wrong_version(folder: Path) -> str | None:
    """Return an error text for the first wheel whose version is not that of constraints.txt, if there is one."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    pinned = {_canonical(name): version for name, _, version in (line.partition("==") for line in lines)}
    for found in metadata.distributions(path=[str(folder)]):
        expected = pinned.get(_canonical(found.name))
        if found.version != expected:
            return f"pip installed {found.name} {found.version}; constraints.txt says {expected}"
    return None


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _check_binaries(folder: Path, functions: FunctionsSettings) -> None:
    tag = f".cpython-{functions.python.replace('.', '')}-"
    for path in folder.rglob("*.so*"):
        with path.open("rb") as file:
            header = file.read(20)
        machine = int.from_bytes(header[18:20], "little")
        if header[:4] != b"\x7fELF" or machine != _ELF_MACHINES[functions.architecture]:
            raise PackageError(f"{path.relative_to(folder)} is not for {functions.architecture}")
        if ".cpython-" in path.name and tag not in path.name:
            raise PackageError(f"{path.relative_to(folder)} is not for Python {functions.python}")


def _check_imports(package: str, folder: Path) -> None:
    # The path holds only the standard library and the folder, so that nothing is imported from the virtual environment.
    code = f"import sys; sys.path.insert(0, sys.argv[1]); import {PACKAGES[package]}"
    command = [sys.executable, "-I", "-S", "-B", "-c", code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise PackageError(f"the wheels of {package} cannot be imported: {lines[-1]}")


if __name__ == "__main__":
    try:
        build(load(ROOT / "config.yaml", *map(Path, sys.argv[1:])))
    except (SettingsError, PackageError) as error:
        sys.exit(f"error: {error}")
