"""The formats of a dataset's files: a table of the formats that are read, and remedies for files of other formats.

A new format is a row of `FORMATS` here and a reader. Readers of text are in `data_prep.sources`, and readers of columns in
`data_prep.parquet`.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.errors import Refused, quoted

MB = 10**6
COMPRESSIONS = (".gz", ".zst")


class Format(NamedTuple):
    """How the files of one suffix are read.

    Attributes:
        suffix: the suffix in lower case, with its dot.
        divisible: whether a part of the file can be read without the parts before it: by lines, or by row groups.
        largest: size in bytes of the largest file that one function reads from end to end within its 15 minutes.
        compressible: whether one of `COMPRESSIONS` may follow the suffix.
        compression: the compression's suffix that follows. None for an uncompressed file.
        columnar: whether pyarrow reads the file (`data_prep.parquet`), and not a reader of text.
    """

    suffix: str
    divisible: bool = False
    largest: int = 4000 * MB
    compressible: bool = False
    compression: str | None = None
    columnar: bool = False


FORMATS = (
    Format(".csv", compressible=True),
    Format(".tsv", compressible=True),
    Format(".jsonl", divisible=True, compressible=True),
    Format(".json", compressible=True),
    Format(".parquet", divisible=True, columnar=True),
    Format(".arrow", columnar=True),
    Format(".feather", columnar=True),
)
LARGEST_COMPRESSED = 1000 * MB
"""`Format.largest` of a compressed file. Its unpacked content has several times its size."""

_BY_ENDING = {
    **{one.suffix: one for one in FORMATS},
    **{
        one.suffix + compression: Format(one.suffix, largest=LARGEST_COMPRESSED, compression=compression)
        for one in FORMATS
        if one.compressible
        for compression in COMPRESSIONS
    },
}


def _listed(suffixes: list[str]) -> str:
    return f"{', '.join(suffixes[:-1])} and {suffixes[-1]}"


SUFFIXES = (
    f"{_listed([one.suffix for one in FORMATS if one.compressible])}, each also with {' or '.join(COMPRESSIONS)} after it, "
    f"{_listed([one.suffix for one in FORMATS if not one.compressible])}"
)
"""The table in words, for refusals."""

_REMEDIES = {
    ("xlsx", "xlsm", "xls", "ods", "numbers"): "save the sheet as CSV UTF-8",
    ("zip", "tar", "tgz", "7z", "rar"): "unpack it, and upload its files",
    ("bz2", "xz", "lz4", "br", "z", "snappy"): "compress it with gzip or zstd, or not at all",
    ("gz", "gzip", "zst", "zstd"): "give the format in its name, such as NAME.csv.gz",
    ("txt", "tab", "psv", "dat"): "name it .csv if it has a header and columns (its separator is found), or .jsonl",
    ("ndjson", "ldjson", "jsonlines", "jl"): "name it .jsonl",
    (
        "orc",
        "avro",
        "pkl",
        "pickle",
        "h5",
        "hdf5",
        "db",
        "sqlite",
        "sql",
        "xml",
        "yaml",
        "yml",
    ): "write it as Parquet or JSON Lines",
    ("pq", "parq"): "name it .parquet",
}
_REMEDY = {suffix: remedy for suffixes, remedy in _REMEDIES.items() for suffix in suffixes}


def format_of(name: str) -> Format | None:
    """Return the format of a file by its name, in upper or lower case, or None if such a file is not read."""
    lower = name.lower()
    return next((found for ending, found in _BY_ENDING.items() if lower.endswith(ending)), None)


def suffix(name: str) -> str:
    """Return the suffix of a name in lower case, without its dot. For a compressed tar file, it is "tar" too."""
    _, *suffixes = name.rpartition("/")[2].lower().split(".")
    return "tar" if "tar" in suffixes else suffixes[-1] if suffixes else ""


def remedy(name: str) -> str | None:
    """Return the remedy for a file of another format by its suffix, or None if none is known."""
    return _REMEDY.get(suffix(name))


def unknown_format(field: str, name: str) -> Refused:
    """Return the refusal of a file that has none of `FORMATS`, with the remedy."""
    base, advice = name.rpartition("/")[2], remedy(name)
    if base != base.strip():
        advice = "its name begins or ends in a blank: correct it"
    elif not suffix(name):
        advice = "its name has no suffix: add the suffix of its format, or / if it is a folder"
    return Refused(
        f"{field}: {quoted(name)} has no format that is read; {advice + '; ' if advice else ''}these are {SUFFIXES}"
    )
