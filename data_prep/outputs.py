"""Writes the files of a run: the rows in each format, which are read back by its rules, and last the manifest.

Both ways through data prep end here: the one function that reads the whole dataset (`prepare`), and the merge of the shards'
files (`merge`). Both hand over the same rows in the same order, so the files are the same to the byte.
"""

from __future__ import annotations

import io
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import orjson

from data_prep import manifest, record_formats, shapes
from data_prep.errors import ReadBackError
from data_prep.request import SPLITS
from data_prep.row_splits import Lowest, bedrock_shares
from data_prep.rows import BLANK_LINE
from pipeline.contracts.data import Prepared
from pipeline.errors import Refused
from pipeline.source.stream import BUFFER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from data_prep.request import PrepRequest
    from data_prep.sources import ReadAs
    from data_prep.writer import S3Folder, Upload
    from pipeline.contracts.data import Piece
    from training.messages import Message

BEDROCK_SPLITS = ("train", "validation")
_SHOWN_REASONS = 3
_UNLIKELY = 1e-6

_WITH_SYSTEM = b'{"messages":[{"role":"system",'
"""The first bytes of the line of a row with a system message."""

_OF_FIELDS = ("dialogue ", "summary ", "no field ")
"""The beginnings of reasons that another column may mend."""

MOST_SYSTEM = 8_000
"""The most characters of a system message that the run keeps. It stands several times in the output of an execution, which has
at most 256 KiB (Step Functions quotas)."""

_SYSTEM = {False: "no system message", True: "a system message"}


def publish(request: PrepRequest, folder: S3Folder, fill: Callable[[Outputs], None]) -> Prepared:
    """Write the rows that `fill` hands over, read them back and write the manifest. Return the function's answer.

    Raises:
        Refused: the user must mend something. `rejected.jsonl` is written even then, to show why.
        ReadBackError: an output has other content than was written.
    """
    outputs = Outputs(request, folder)
    refusal = None
    with outputs.rejects:
        try:
            with ExitStack() as uploads:
                for split in outputs.splits.values():
                    uploads.enter_context(split.upload)
                fill(outputs)
                # Still inside: a refusal here leaves no training file behind.
                outputs.refuse_unfit()
        except Refused as error:
            refusal = error
    if refusal:
        raise refusal
    return outputs.publish()


class Split:
    """The file of one split, and the rows of it that Bedrock's sample draws."""

    def __init__(self, name: str, upload: Upload, bedrock: Lowest | None) -> None:
        """Take the parts. `bedrock` is None if Bedrock gets no rows of this split."""
        self.name, self.upload, self.bedrock = name, upload, bedrock
        self.accepted = self.eligible = 0


class Outputs:
    """Takes the rows in reading order, counts them and writes them."""

    def __init__(self, request: PrepRequest, folder: S3Folder) -> None:
        """Prepare the files. Nothing is written yet."""
        self._request, self._folder = request, folder
        model = request.base_model
        self._limit = min(model.max_records, request.max_records) if model else 0
        self._uploads: dict[str, Upload] = {}
        self._files: dict[str, manifest.FileRead] = {}
        self._rejected: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._shares = dict.fromkeys(BEDROCK_SPLITS, 0)
        self._all_alike = bool(model and model.one_kind_of_system)
        self._has_system: bool | None = None
        self.rejects = self._upload("rejected.jsonl")
        self.splits = {
            name: Split(
                name,
                self._upload(f"{name}/{name}.jsonl"),
                Lowest(self._limit) if model and name in BEDROCK_SPLITS else None,
            )
            for name in SPLITS
        }

    def _upload(self, name: str) -> Upload:
        self._uploads[name] = self._folder.write(name)
        return self._uploads[name]

    def file(self, piece: Piece) -> manifest.FileRead:
        """Return the counts of the piece's file. The caller adds one to `read` for each row that it reads."""
        return self._files.setdefault(piece.file, manifest.FileRead(piece.file, piece.bytes, piece.etag))

    def note(self, piece: Piece, read_as: ReadAs | None) -> None:
        """Record how the piece's file was read."""
        if read_as:
            file = self.file(piece)
            file.format, file.encoding, file.separator = read_as

    def reject(self, file: manifest.FileRead, reason: str) -> None:
        """Count the row that was read last as not fit, for this reason."""
        file.rejected += 1
        self._rejected[reason] += 1
        self._note(file, reason, "all")

    def accept(
        self, file: manifest.FileRead, split: Split, normalized: bool, problem: str | None, line: bytes
    ) -> str | None:
        """Count the row that was read last as fit and new.

        Args:
            file: the row's file.
            split: the row's split.
            normalized: whether its line ends were changed.
            problem: why Bedrock's base model does not take it; None if the row alone does not tell.
            line: the row's line.

        Returns:
            Why Bedrock's base model does not take it, after a look at the rows before.
        """
        split.accepted += 1
        file.line_ends_normalized += normalized
        if self._all_alike and split.bedrock and not problem:
            has_system = line.startswith(_WITH_SYSTEM)
            if self._has_system is None:
                self._has_system = has_system
            elif has_system != self._has_system:
                problem = f"has {_SYSTEM[has_system]}, and the first record has {_SYSTEM[self._has_system]}"
        if problem and split.bedrock:
            self._left_out[problem] += 1
            self._note(file, problem, "bedrock")
        return problem

    def _note(self, file: manifest.FileRead, reason: str, rejected_from: str) -> None:
        line = {"file": file.name, "row": file.read, "reason": reason, "from": rejected_from}
        self.rejects.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def emit(self, split: Split, digest: bytes, problem: str | None, line: bytes) -> None:
        """Write an accepted row. The rows of a split must come in reading order."""
        if split.bedrock and not problem:
            split.eligible += 1
            split.bedrock.add(digest, split.upload.rows)
        split.upload.write(line)

    def refuse_unfit(self) -> None:
        """Refuse the dataset if a share or count of rows is not enough for a run.

        Raises:
            Refused: too many rows are not fit, or too few are fit.
        """
        dataset, model = self._request.dataset, self._request.base_model
        unfit = self._unfit()
        read = sum(file.read for file in self._files.values()) - self._rejected[BLANK_LINE]
        listed = f"listed in {self._folder.place('rejected.jsonl')}"
        if not read:
            raise Refused(
                "dataset: the source has no rows (headers at most); add rows, or name other files in dataset.source"
            )
        all_have_rows = all(split.upload.rows for split in self.splits.values())
        if unfit.total() > dataset.max_rejected_share * read:
            raise Refused(
                f"dataset: {_tally(unfit)} of {read} rows are not fit, more than the share of "
                f"{dataset.max_rejected_share:g}, {listed}; {self._mend_rejected(read, more_allowed=all_have_rows)}"
            )
        for split in self.splits.values():
            if not split.upload.rows:
                raise Refused(
                    f"dataset: no row is left for {split.name} ({read} rows read, {_tally(unfit)} rejected, "
                    f"{listed}); {self._fill(split, read)}"
                )
        if model is None:
            return
        accepted = sum(split.accepted for split in self.splits.values() if split.bedrock)
        eligible = {name: self.splits[name].eligible for name in BEDROCK_SPLITS}
        self._shares = bedrock_shares(eligible, model, self._limit)
        enough = (
            sum(self._shares.values()) >= model.min_records and min(self._shares.values()) >= model.min_file_records
        )
        if self._left_out.total() > dataset.max_rejected_share * accepted:
            raise Refused(
                f"bedrock: {model.id} does not take {_tally(self._left_out)} of {accepted} rows, more than the share of "
                f"{dataset.max_rejected_share:g}, {listed}; mend them, "
                f"{'raise dataset.max_rejected_share, ' if enough else ''}choose another bedrock.base_model, or set "
                "bedrock.mode to import or off"
            )
        if not enough:
            remedies = ["add rows"]
            if self._left_out:
                remedies.append("mend those that are not fit")
            if any(split.accepted > split.upload.rows for split in self.splits.values() if split.bedrock):
                remedies.append("raise dataset.max_rows")
            if self._shares["validation"] < model.min_file_records and "validation" not in dataset.splits:
                remedies.append("raise dataset.ratios.validation")
            raise Refused(
                f"bedrock: {model.id} needs {model.min_records} records, train and validation together, and at least "
                f"{model.min_file_records} of each, and gets {self._shares['train']} + {self._shares['validation']} "
                f"({read} rows read, {_tally(unfit)} rejected, {_tally(self._left_out)} not fit for this model, "
                f"{self._limit} allowed); {', '.join(remedies)}, or set bedrock.mode to import or off"
            )

    def _unfit(self) -> Counter[str]:
        """Return the reasons with their counts, without blank lines.

        A blank line is not a row. In a CSV file whose CRLF became CRCRLF, every second line is blank.
        """
        return Counter({reason: count for reason, count in self._rejected.items() if reason != BLANK_LINE})

    def _mend_rejected(self, read: int, *, more_allowed: bool) -> str:
        """Return the remedy if too many rows are not fit. To allow more helps only if every split still has fit rows."""
        dataset = self._request.dataset
        (reason, count), *_ = self._unfit().most_common(1)
        if reason.startswith("broken UTF-8"):
            return "write UTF-8 (Excel: 'CSV UTF-8'), or set dataset.csv.encoding to the encoding of a CSV file, such as cp1252"
        if dataset.fields[:2] == ("input", "output") and reason in shapes.WITHOUT_INPUT:
            return "if these are Alpaca rows (instruction, input, output), set dataset.format: instruction"
        formats = {file.format for file in self._files.values()}
        if count > read / 2 and (remedy := shapes.other_roles(reason, dataset.fields, formats)):
            return remedy
        if reason.startswith(("dialogue ", "summary ")) and reason.endswith("is not a string"):
            return "name two columns of text in dataset.fields, or write the values of these as text"
        ways = ["mend them"]
        if reason == f"longer than {self._request.max_tokens} tokens (estimated)":
            ways.append("raise training.max_length")
            if not dataset.cut_long and formats & {"messages", "sharegpt", "prompt_completion"}:
                ways.append("set training.long_conversations: cut")
        elif count > read / 2 and reason.startswith((*_OF_FIELDS, "a turn without ")):
            ways.append("name other columns in dataset.fields")
        if more_allowed:
            ways.append("raise dataset.max_rejected_share")
        return ", or ".join((", ".join(ways[:-1]), ways[-1])) if len(ways) > 1 else ways[0]

    def _fill(self, split: Split, read: int) -> str:
        """Return the remedy for a split without rows."""
        dataset, name = self._request.dataset, split.name
        dealt = [other for other in ("validation", "test") if other not in dataset.splits]
        if not any(other.accepted for other in self.splits.values()):
            return self._mend_rejected(read, more_allowed=False)
        if name not in dealt and (name != "train" or not dealt):
            return f"mend or add rows in its files (dataset.files.{name})"
        pool = sum(self.splits[other].accepted for other in ("train", *dealt))
        share = 1 - sum(dataset.ratios[other] for other in dealt) if name == "train" else dataset.ratios[name]
        # The dialogue decides the split. If each row had its own dialogue, a split would almost never stay empty.
        if (1 - share) ** pool < _UNLIKELY:
            return (
                f"almost all of the {pool} rows that are fit have the same dialogue, and such rows stay in one split: "
                "name the column that differs from row to row in dataset.fields.dialogue"
            )
        ratios = " and ".join(f"dataset.ratios.{other}" for other in dealt)
        return f"mend or add rows, or {f'lower {ratios}' if name == 'train' else f'raise dataset.ratios.{name}'}"

    def publish(self) -> Prepared:
        """Read the files back, write Bedrock's files from them, and last the manifest. Return the function's answer."""
        system = self._read_back_chat()
        self._read_back_bedrock()
        counts = {split.name: split.upload.rows for split in self.splits.values()}
        with self._folder.write("manifest.json") as upload:
            upload.write(
                manifest.render(
                    self._request,
                    list(self._files.values()),
                    self._manifest_splits(),
                    self._tallies(),
                    self._uploads,
                    system,
                )
            )
        too_long = system is not None and len(system) > MOST_SYSTEM
        return Prepared(
            manifest=str(self._folder.place("manifest.json")),
            counts={
                **counts,
                "rejected": self._rejected.total(),
                **{f"bedrock_{split}": count for split, count in self._shares.items()},
            },
            rejected=dict(sorted(self._rejected.items())),
            formats=dict(sorted(Counter(file.format for file in self._files.values() if file.format).items())),
            system=None if too_long else system,
            warnings=[_long_system(system)] if system and too_long else [],
        )

    def _read_back_chat(self) -> str | None:
        """Check the files of rows against their rules, and write Bedrock's files from the rows that are read back.

        The rows that Bedrock's sample draws are known only now. So they come from the files and not from memory.

        Returns:
            The system message that all rows share; None if they have none, or not the same.
        """
        model, read_row = self._request.base_model, record_formats.read_row
        first: Message | None = None
        is_shared = True
        for split in self.splits.values():
            lines = self._lines(f"{split.name}/{split.name}.jsonl")
            if model is None or split.bedrock is None:
                for line in lines:
                    row = read_row(line)
                    if row[0] != first:
                        first, is_shared = row[0], first is None
                continue
            drawn = split.bedrock.numbers(self._shares[split.name])
            next_drawn = next(drawn, None)
            with self._upload(f"bedrock/{split.name}.jsonl") as upload:
                for number, line in enumerate(lines):
                    row = read_row(line)
                    if row[0] != first:
                        first, is_shared = row[0], first is None
                    if number == next_drawn:
                        upload.write(record_formats.bedrock(model, row))
                        next_drawn = next(drawn, None)
        return first["content"] if first and is_shared and first["role"] == "system" else None

    def _read_back_bedrock(self) -> None:
        model = self._request.base_model
        if model is None:
            return
        for name, records in self._shares.items():
            file = f"bedrock/{name}.jsonl"
            for line in self._lines(file):
                record_formats.check_bedrock(line, model)
            if self._uploads[file].rows != records:
                raise ReadBackError(f"{self._folder.place(file)} has {self._uploads[file].rows} records, not {records}")

    def _lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of an output, and check at its end that its bytes are the bytes that were written."""
        upload, place = self._uploads[name], self._folder.place(name)
        raw = self._folder.open(name)
        yield from read_lines(raw)
        if (raw.position, raw.sha256) != (upload.bytes, upload.sha256):
            raise ReadBackError(f"{place} does not hold the bytes that were written")

    def _manifest_splits(self) -> dict[str, Any]:
        return {
            split.name: {
                "accepted": split.accepted,
                "left_out_by_max_rows": split.accepted - split.upload.rows,
                "written": split.upload.rows,
            }
            for split in self.splits.values()
        }

    def _tallies(self) -> dict[str, Any]:
        model = self._request.base_model
        return {
            "rejected": dict(sorted(self._rejected.items())),
            "bedrock": model
            and {
                "base_model": model.id,
                "format": model.format,
                "limit": self._limit,
                "not_fit_for_the_base_model": dict(sorted(self._left_out.items())),
                "left_out_by_limit": {name: self.splits[name].eligible - share for name, share in self._shares.items()},
                "written": self._shares,
            },
        }


def read_lines(raw: io.RawIOBase) -> Iterator[bytes]:
    """Yield the lines of a stream, and close it at the end."""
    with io.BufferedReader(raw, BUFFER_BYTES) as stream:
        yield from stream


def _long_system(system: str) -> str:
    return (
        f"the system message that all rows share has {len(system):,} characters, and a run keeps at most {MOST_SYSTEM:,}: the "
        "model is called without it unless you give it as the first message of each question"
    )


def _tally(reasons: Counter[str]) -> str:
    """Return the counts as text, such as `12 (dialogue is empty: 9, not valid JSON: 3)`."""
    if not reasons:
        return "0"
    shown = ", ".join(f"{reason}: {count}" for reason, count in reasons.most_common(_SHOWN_REASONS))
    return f"{reasons.total()} ({shown})"
