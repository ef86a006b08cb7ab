"""One run of data prep: read, check, deal, write, read back, and the manifest last."""

from __future__ import annotations

from array import array
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import orjson

from data_prep import formats, manifest
from data_prep.checks import Checks
from data_prep.errors import ReadBackError
from data_prep.request import SPLITS
from data_prep.rows import reader
from data_prep.splits import NEVER, Sample, bedrock_shares, bound, dealer, key
from pipeline.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from data_prep.checks import Accepted
    from data_prep.request import Request
    from data_prep.sources import Source, SourceFile
    from data_prep.writer import Folder, Upload

BEDROCK_SPLITS = ("train", "validation")
_SHOWN_REASONS = 3


def prepare(request: Request, source: Source, folder: Folder) -> dict[str, Any]:
    """Prepare the dataset of `request`; returns the function's answer.

    Raises:
        Refused: what the user can mend. `rejected.jsonl` is written even then, to show why.
        SourceUnavailable: a file did not come whole.
        ReadBackError: an output is not what was meant.
    """
    return _Run(request, source, folder).answer()


class _Split:
    """The chat file of one split, and the keys by which Bedrock's sample is drawn from its rows."""

    def __init__(self, name: str, upload: Upload, rows: int | None) -> None:
        self.name, self.upload = name, upload
        self.sample = Sample(rows, name) if rows is not None else None
        self.accepted = 0
        self.keys = array("Q")

    @property
    def eligible(self) -> int:
        """Rows that Bedrock's base model takes."""
        return len(self.keys) - self.keys.count(NEVER)


class _Run:
    def __init__(self, request: Request, source: Source, folder: Folder) -> None:
        self.request, self.source, self.folder = request, source, folder
        self.checks = Checks(request.dataset.seed)
        self.splits: dict[str, _Split] = {}
        self.files: list[manifest.FileRead] = []
        self.rejected: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.shares = dict.fromkeys(BEDROCK_SPLITS, 0)
        self.outputs: dict[str, Upload] = {}

    def answer(self) -> dict[str, Any]:
        refusal = None
        with self._upload("rejected.jsonl") as self.reject_file:
            try:
                self._write_chat()
            except Refused as error:
                refusal = error
        if refusal:
            raise refusal
        self._read_back_chat()
        self._read_back_bedrock()
        counts = {split.name: split.upload.rows for split in self.splits.values()}
        splits, tallies = self._manifest_splits(), self._tallies()
        with self.folder.write("manifest.json") as upload:
            upload.write(manifest.render(self.request, self.files, splits, tallies, self.outputs))
        return {
            "refused": None,
            "manifest": str(self.folder.place("manifest.json")),
            "counts": {
                **counts,
                "rejected": self.rejected.total(),
                **{f"bedrock_{split}": count for split, count in self.shares.items()},
            },
            "rejected": dict(sorted(self.rejected.items())),
        }

    def _upload(self, name: str) -> Upload:
        self.outputs[name] = self.folder.write(name)
        return self.outputs[name]

    def _write_chat(self) -> None:
        dataset = self.request.dataset
        with ExitStack() as uploads:
            for name in SPLITS:
                upload = uploads.enter_context(self._upload(f"{name}/{name}.jsonl"))
                self.splits[name] = _Split(name, upload, dataset.max_rows[name])
            for file in self.source.files:
                self._read_file(file)
            for split in self.splits.values():
                for name, row in split.sample.rows() if split.sample else ():
                    self._emit(split, name, row)
            # Still inside: a refusal here leaves no training file behind.
            self._refuse_too_few()

    def _read_file(self, file: SourceFile) -> None:
        read = reader(file.name)
        deal = dealer(self.request.dataset.ratios, [one.split for one in self.source.files])
        report = manifest.FileRead(file.name)
        raw = self.source.open(file.name)
        with raw.buffered() as stream:
            for row in read(stream, file.name, self.request.dataset.fields):
                report.read += 1
                fit = self.checks.fit(row)
                if isinstance(fit, str):
                    self._reject(report, row.number, fit)
                    continue
                split = self.splits[deal(fit.dialogue_digest) if file.split == "train" else file.split]
                problem = self.checks.unique(fit, split.name)
                if problem:
                    self._reject(report, row.number, problem)
                    continue
                split.accepted += 1
                report.line_ends_normalized += fit.normalized
                if split.sample:
                    split.sample.add(file.name, fit)
                else:
                    self._emit(split, file.name, fit)
            report.bytes, report.sha256 = raw.received, raw.sha256
        self.files.append(report)

    def _reject(self, report: manifest.FileRead, number: int, reason: str) -> None:
        report.rejected += 1
        self.rejected[reason] += 1
        self._note(report.name, number, reason, "all")

    def _note(self, file: str, number: int, reason: str, rejected_from: str) -> None:
        line = {"file": file, "row": number, "reason": reason, "from": rejected_from}
        self.reject_file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def _emit(self, split: _Split, file: str, row: Accepted) -> None:
        instruction = self.request.dataset.instruction
        split.upload.write(formats.chat(instruction, row.dialogue, row.summary))
        model = self.request.base_model
        if model is None or split.name not in BEDROCK_SPLITS:
            return
        problem = formats.bedrock_problem(model, instruction, row.dialogue, row.summary)
        if problem:
            self.left_out[problem] += 1
            self._note(file, row.number, problem, "bedrock")
        split.keys.append(NEVER if problem else key(row.digest))

    def _refuse_too_few(self) -> None:
        read = f"{sum(file.read for file in self.files)} rows read, {_tally(self.rejected)} rejected"
        for split in self.splits.values():
            if not split.upload.rows:
                raise Refused(
                    f"dataset: no row is left for {split.name} ({read}, listed in "
                    f"{self.folder.place('rejected.jsonl')}); mend or add rows, or raise "
                    f"dataset.ratios.{split.name}"
                )
        model = self.request.base_model
        if model is None:
            return
        eligible = {name: self.splits[name].eligible for name in BEDROCK_SPLITS}
        limit = min(model.max_records, self.request.max_records)
        self.shares = bedrock_shares(eligible, limit)
        records = sum(self.shares.values())
        if records < model.min_records or not all(eligible.values()):
            raise Refused(
                f"bedrock: {model.id} needs {model.min_records} records, train and validation together and "
                f"some of each, and gets {self.shares['train']} + {self.shares['validation']} ({read}, "
                f"{_tally(self.left_out)} not fit for this model, {limit} allowed); add rows, raise "
                "dataset.max_rows or bedrock.max_records, or set bedrock.enabled to false"
            )

    def _read_back_chat(self) -> None:
        """Hold the chat files against their rules, and write Bedrock's files out of what was read.

        Only now is it known which rows Bedrock's sample draws, so they come from here and not from memory.
        """
        model = self.request.base_model
        for split in self.splits.values():
            lines = self._lines(f"{split.name}/{split.name}.jsonl")
            if model is None or split.name not in BEDROCK_SPLITS:
                for line in lines:
                    formats.read_chat(line)
                continue
            last = bound(split.keys, self.shares[split.name])
            with self._upload(f"bedrock/{split.name}.jsonl") as upload:
                for line, row_key in zip(lines, split.keys, strict=True):
                    texts = formats.read_chat(line)
                    if row_key <= last:
                        upload.write(formats.bedrock(model, *texts))

    def _read_back_bedrock(self) -> None:
        model = self.request.base_model
        if model is None:
            return
        for name, records in self.shares.items():
            file = f"bedrock/{name}.jsonl"
            for line in self._lines(file):
                formats.check_bedrock(line, model)
            if self.outputs[file].rows != records:
                raise ReadBackError(f"{self.folder.place(file)} has {self.outputs[file].rows} records, not {records}")

    def _lines(self, name: str) -> Iterator[bytes]:
        """The lines of an output, which must be the bytes that were written."""
        upload, place = self.outputs[name], self.folder.place(name)
        raw = self.folder.open(name)
        with raw.buffered() as stream:
            yield from stream
        if (raw.received, raw.sha256) != (upload.bytes, upload.sha256):
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
        return {
            "rejected": dict(sorted(self.rejected.items())),
            "bedrock": self.request.base_model
            and {
                "base_model": self.request.base_model.id,
                "format": self.request.base_model.format,
                "limit": min(self.request.base_model.max_records, self.request.max_records),
                "not_fit_for_the_base_model": dict(sorted(self.left_out.items())),
                "left_out_by_limit": {name: self.splits[name].eligible - share for name, share in self.shares.items()},
                "written": self.shares,
            },
        }


def _tally(reasons: Counter[str]) -> str:
    """`12 (dialogue is empty: 9, not valid JSON: 3)`."""
    if not reasons:
        return "0"
    shown = ", ".join(f"{reason}: {count}" for reason, count in reasons.most_common(_SHOWN_REASONS))
    return f"{reasons.total()} ({shown})"
