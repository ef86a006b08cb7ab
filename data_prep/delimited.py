"""Reads rows from CSV files with any separator. A file is refused if it is not certain where a row ends."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, Any, NoReturn

from data_prep.rows import BLANK_LINE, BOM_BYTES, LONGEST_BYTES
from data_prep.shapes import index, no_column
from pipeline.errors import Refused, quoted

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator

    from data_prep.row_formats import Row, RowFormat, RowFormats

SEPARATORS = (",", ";", "\t", "|")
"""The separators that are tried on the header if none is set."""

_CHUNK_BYTES = 256 * 1024

_HEADER_LINES = 20
"""Number of lines at the top of a file in which a header is searched that is not in the first line."""

_LINE_END = re.compile(rb"\r\n|\r|\n")

_EXCEL_LINE = re.compile(r'"?sep=([^\w\s"]|\t)"?[,;\t]*\s*', re.ASCII)
"""The line that Excel writes above the header. It names the separator."""

_REMEDY = (
    "so pieces of a row could pass for rows; quote each text that holds a line end, a quote or the separator, and write its "
    "quotes twice (RFC 4180; Python's csv module and pandas do), or write JSON Lines"
)

_BARE = "has a quote inside a field that is not quoted"

csv.field_size_limit(LONGEST_BYTES)


class CsvFile:
    """A CSV file with a header, by RFC 4180 with any separator. A line end inside quotes belongs to the text.

    Broken UTF-8 becomes lone surrogates, which the checks find. The csv module decides where a row ends. A regular expression
    reads the plain rows, four times as fast, and the csv module reads every row that the expression does not match.

    The file is refused at the first row that breaks the rules. If a quote is closed at another place than it seems, or a line
    end stands in a text without quotes, the lines before and after may be pieces of one row, which look like rows.

    Attributes:
        separator: the separator that is set, or the first one by which the header has the columns of a format. None if the
            file is empty.
        row_format: the format of the rows. None if the file is empty.
    """

    def __init__(
        self, stream: io.BufferedReader[Any], name: str, formats: RowFormats, separator: str | None = None
    ) -> None:
        """Read the header.

        Raises:
            Refused: the header is not CSV, or it has not the columns of one format.
        """
        self._name, self._formats = name, formats
        self.row_format: RowFormat | None = None
        self._text = _Text(stream, name)
        separators = SEPARATORS if separator is None else (separator,)
        self.separator, self._header = self._read_header(separators)
        if self.separator is not None:
            self.row_format = formats.choose(name, [_cells(self._header)])
            self._places = index(self._header, name, self.row_format or formats.fallback)

    def _read_header(self, separators: tuple[str, ...]) -> tuple[str | None, list[str]]:
        text = self._text
        text.mark()
        found: dict[str, list[str]] = {}
        failed: csv.Error | None = None
        if excel_line := _EXCEL_LINE.fullmatch(next(text, "")):
            separators = (excel_line[1],)
            text.mark()
        for separator in separators:
            text.rewind()
            try:
                lines = csv.reader(text, strict=True, delimiter=separator)
                header = next((line for line in lines if line), None)
            except csv.Error as error:
                failed = error
                continue
            if header is None:
                return None, []
            found[separator] = header
            if self._formats.any_fits(_cells(header)):
                text.release()
                return separator, header
        if not found:
            raise Refused(
                f"dataset: the header of {quoted(self._name)} is not valid CSV ({failed}); mend its quotes"
            ) from failed
        # The separator that finds the most columns, and the first of those that find as many.
        return self._refuse_header(max(found, key=lambda separator: len(found[separator])), found)

    def _refuse_header(self, separator: str, found: dict[str, list[str]]) -> NoReturn:
        header = found[separator]
        if lists := self._formats.turns.keys() & header:
            raise Refused(
                f"dataset.format: {quoted(self._name)} has the column {quoted(min(lists))}, and a cell of a CSV file is "
                "text and no list of turns; write JSON Lines or Parquet"
            )
        line = self._line_with_columns(tuple(found))
        if line:
            raise Refused(
                f"dataset: {quoted(self._name)} has its header in line {line}; remove the lines above it, so that it is the "
                "first"
            )
        if any("\udc80" <= letter <= "\udcff" for column in header for letter in column):
            raise Refused(
                f"dataset.csv.encoding: the header of {quoted(self._name)} is not UTF-8; write the file as UTF-8 (Excel: 'CSV "
                "UTF-8'), or set dataset.csv.encoding to its encoding, such as cp1252"
            )
        row_format = self._formats.fallback
        missing = next(field for field in row_format.columns if field not in header)
        more = "" if separator == "," else f" (separated by {quoted(separator)})"
        if len(header) == 1:
            more = " (if another character separates the columns, set dataset.csv.separator to it)"
        no_column(self._name, missing, header, row_format, more)

    def _line_with_columns(self, separators: tuple[str, ...]) -> int | None:
        self._text.rewind()
        for number, line in zip(range(1, _HEADER_LINES + 1), self._text, strict=False):
            for separator in separators:
                cells = [cell.strip('"') for cell in line.rstrip("\r\n").split(separator)]
                if number > 1 and self._formats.any_fits(_cells(cells)):
                    return number
        return None

    def __iter__(self) -> Iterator[Row]:  # noqa: PLR0912 - a call per row would take time
        """Yield the rows.

        Raises:
            Refused: a row is not CSV, has more or fewer columns than the header, or opens a quote that never closes.
        """
        if self.separator is None or self.row_format is None:
            return
        text, width, places, row_of = self._text, len(self._header), self._places, self.row_format.row
        rules = _Rules(self.separator, width, places)
        cells = csv.reader(text, strict=True, delimiter=self.separator)  # strict: the module does not guess
        number = 0
        plain, groups = rules.plain, tuple(f"{kind}{place}" for place in places for kind in ("quoted", "bare"))
        is_pair = self.row_format.is_pair
        while True:
            buffer, at = text.buffer, text.at
            while found := plain(buffer, at):
                at = found.end()
                number += 1
                if is_pair:
                    quoted_text, bare, summary_quoted, summary_bare = found.group(*groups)
                    yield _cell(quoted_text, bare), _cell(summary_quoted, summary_bare), None
                else:
                    matched = found.group(*groups)
                    yield row_of(*map(_cell, matched[::2], matched[1::2]))
            rules.has_quoted = rules.has_quoted or buffer.find(b'"', text.at, at) >= 0
            text.at = at
            number += 1
            text.lines.clear()
            try:
                row = next(cells)
            except StopIteration:
                if rules.are_broken():
                    self._refuse(rules.bare_row, _BARE)
                return
            except csv.Error as error:
                if rules.are_broken():  # by an earlier row
                    self._refuse(rules.bare_row, _BARE)
                self._refuse_unread(number, error)
            rules.look_at(b"".join(text.lines), number)
            if rules.are_broken():
                self._refuse(rules.bare_row, _BARE)
            if len(row) == width:
                yield row_of(*[row[place] for place in places])
            elif not "".join(row).strip() and len(row) <= 1:
                yield None, None, BLANK_LINE
            else:
                columns = f"{len(row)} column{'s' * (len(row) != 1)}"
                self._refuse(number, f"has {columns}, and the header has {width}")

    def _refuse_unread(self, number: int, error: csv.Error) -> NoReturn:
        if "unexpected end of data" in str(error) or "field limit" in str(error):
            raise Refused(
                f"dataset: {quoted(self._name)} opens a quote in row {number} that never closes; close it"
            ) from error
        if rb"\"" in b"".join(self._text.lines):
            way = "which is Spark's and MySQL's way and not CSV's (Spark writes CSV by option('escape', '\"'))"
            self._refuse(number, f"has a backslash before a quote, {way}")
        self._refuse(number, "has a quote inside a text that is not written twice")

    def _refuse(self, number: int, problem: str) -> NoReturn:
        raise Refused(f"dataset: row {number} of {quoted(self._name)} {problem}, {_REMEDY}")


class _Rules:
    """The forms that a row may have, and the quotes that the rows so far have."""

    def __init__(self, separator: str, width: int, places: list[int]) -> None:
        mark = re.escape(separator)
        bare = rf'[^"\r\n{mark}]*+'
        fields = [
            rf'(?:"(?P<quoted{n}>[^"]*+(?:""[^"]*+)*+)"|(?P<bare{n}>{bare}))'
            if n in places
            else rf'(?:"[^"]*+(?:""[^"]*+)*+"|{bare})'
            for n in range(width)
        ]
        self.plain: Callable[[bytes, int], re.Match[bytes] | None]
        # A whole row: each field is either quoted or has no quote, and the row has its line end.
        self.plain = re.compile((mark.join(fields) + r"\r?\n").encode()).match
        field = rf'(?:"[^"]*+(?:""[^"]*+)*+"|{bare})'
        self._strict = re.compile(rf"{field}(?:{mark}{field})*+(?:\r\n|\r|\n|)".encode()).fullmatch
        self._opens = re.compile(rf'(?:\A|{mark})"'.encode()).search
        self._fields = re.compile(rf'(?:\A|{mark})(?:"[^"]*+(?:""[^"]*+)*+"|(?P<bare>[^{mark}]*+))'.encode()).finditer
        self.has_quoted, self.bare_row, self._closes = False, 0, False

    def look_at(self, raw: bytes, number: int) -> None:
        """Record the quotes of row `number`: quotes that enclose a field, and quotes inside a field that is not quoted."""
        if b'"' not in raw:
            return
        self.has_quoted = self.has_quoted or bool(self._opens(raw))
        if self._strict(raw):
            return
        # If their number is odd, the last quote may close a text whose opening quote is in an earlier line.
        bare = (field["bare"] or b"" for field in self._fields(raw.rstrip(b"\r\n")))
        self._closes = self._closes or any(text.endswith(b'"') and text.count(b'"') % 2 for text in bare)
        if self._closes or not self.bare_row:
            self.bare_row = number

    def are_broken(self) -> bool:
        """Return whether the file has quotes that make it uncertain where a row ends.

        In a file without quoted fields a quote is an ordinary character, and a line is a row.
        """
        return bool(self.bare_row) and (self.has_quoted or self._closes)


def _cells(header: list[str]) -> dict[str, str]:
    """Return a row of this header whose cells are text, to find the format that it fits."""
    return dict.fromkeys(header, "")


def _cell(quoted_text: bytes | None, bare: bytes) -> str:
    if quoted_text is None:
        return bare.decode("utf-8", "surrogateescape")
    if b'""' in quoted_text:
        quoted_text = quoted_text.replace(b'""', b'"')
    return quoted_text.decode("utf-8", "surrogateescape")


class _Text:
    """A stream without its BOM. Rows are matched in its buffer, and its iterator yields the lines as text."""

    def __init__(self, stream: io.BufferedReader[Any], name: str) -> None:
        self._stream, self._name = stream, name
        self._ended = False
        self._marked: int | None = None
        self.buffer, self.at = b"", 0
        self.lines: list[bytes] = []
        """The lines that the iterator has yielded since the list was last emptied."""
        while len(self.buffer) < len(BOM_BYTES) and not self._ended:
            self._fill()
        self.buffer = self.buffer.removeprefix(BOM_BYTES)

    def mark(self) -> None:
        """Keep everything in the buffer from here on."""
        self._marked = self.at

    def rewind(self) -> None:
        """Go back to the mark."""
        self.at = self._marked or 0
        self.lines.clear()

    def release(self) -> None:
        """Forget the mark, so that the buffer drops the bytes that have been read."""
        self._marked = None

    def _fill(self) -> None:
        data = self._stream.read(_CHUNK_BYTES)
        kept = self.at if self._marked is None else self._marked
        self.buffer, self._ended = self.buffer[kept:] + data, not data
        self.at -= kept
        self._marked = None if self._marked is None else 0

    def __iter__(self) -> _Text:
        return self

    def __next__(self) -> str:
        """Return the next line with its end (CRLF, CR or LF), as a file opened with newline="" does."""
        while True:
            end = _LINE_END.search(self.buffer, self.at)
            # A CR at the end of the buffer may be half of a CRLF.
            if self._ended or (end and not (end.end() == len(self.buffer) and end[0] == b"\r")):
                line = self.buffer[self.at : end.end() if end else len(self.buffer)]
                if not line:
                    raise StopIteration
                self.at += len(line)
                self.lines.append(line)
                return line.decode("utf-8", "surrogateescape")
            if len(self.buffer) - self.at > LONGEST_BYTES:
                raise Refused(
                    f"dataset: {quoted(self._name)} has a line of over {LONGEST_BYTES} bytes; write one row per line"
                )
            self._fill()
