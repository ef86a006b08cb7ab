"""Reads rows from Parquet and Arrow files, in memory that does not grow with the file.

It is imported only for such a file, because it imports pyarrow.
"""

from __future__ import annotations

from itertools import repeat, starmap
from typing import TYPE_CHECKING, Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.encoding import HEAD_BYTES, refuse_others
from data_prep.row_formats import BROKEN
from data_prep.shapes import index, refuse_chat, refuse_no_turns
from pipeline.errors import Refused, quoted

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator

    from data_prep.row_formats import Row, RowFormat, RowFormats
    from pipeline.contracts.data import Piece

BATCH_ROWS = 256

BUFFER_BYTES = 512 * 1024
"""Bytes of a column that are read at once. Without it, or with pre_buffer, pyarrow reads a row group's whole column."""

_FILE_MARK = b"ARROW1"
"""The first bytes of Arrow's file format (Arrow columnar format, "IPC File Format")."""

_PARQUET_MARK = b"PAR1"
"""The first bytes of a Parquet file (Parquet's format, "File format")."""

_AS_BYTES = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}


def read_columnar(
    suffix: str,
    file: io.RawIOBase,
    stream: io.BufferedReader[Any],
    piece: Piece,
    formats: RowFormats,
    note: Callable[[RowFormat], None],
) -> Iterator[Row]:
    """Return the rows of a file by the suffix of its format. `_read_arrow` explains the other arguments.

    Raises:
        Refused: as in `_read_parquet`.
    """
    if suffix == ".parquet":
        return _read_parquet(file, piece, formats, note)
    return _read_arrow(file, stream, piece, formats, note)


def _read_parquet(
    file: io.RawIOBase, piece: Piece, formats: RowFormats, note: Callable[[RowFormat], None]
) -> Iterator[Row]:
    """Yield the rows of the row groups that begin in `piece`.

    Raises:
        Refused: the file is not Parquet, a mapped column is missing, or its data cannot be decoded.
    """
    # The system's pool gives freed memory back. pyarrow's other pools keep it.
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER_BYTES)
        row_format, columns = _columns(parquet.schema_arrow, piece.file, formats)
        note(row_format)
        meta = parquet.metadata
        groups = [i for i in range(meta.num_row_groups) if piece.start <= _begin(meta.row_group(i)) < piece.end]
        for batch in parquet.iter_batches(BATCH_ROWS, row_groups=groups, columns=columns, use_threads=False):
            yield from _rows(batch, row_format, columns)
    except (pa.ArrowException, OSError) as error:  # Arrow raises OSError for a page that is cut or damaged
        _refuse(file, piece, "Parquet", _PARQUET_MARK, error)


def _read_arrow(
    file: io.RawIOBase,
    stream: io.BufferedReader[Any],
    piece: Piece,
    formats: RowFormats,
    note: Callable[[RowFormat], None],
) -> Iterator[Row]:
    """Yield the rows of an Arrow file.

    The file has either IPC's stream format, which datasets' save_to_disk writes, or its file format, also called Feather.

    Args:
        file: the file, in which the reader of the file format seeks.
        stream: the same file from its beginning to its end, for the stream format.
        piece: the whole file as a piece.
        formats: the formats that the rows may have.
        note: called with the format that they have.

    Raises:
        Refused: as in `_read_parquet`.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        if file.read(len(_FILE_MARK)) == _FILE_MARK:
            reader = pa.ipc.open_file(file)
            batches = map(reader.get_batch, range(reader.num_record_batches))
        else:
            reader = batches = pa.ipc.open_stream(stream)
        row_format, columns = _columns(reader.schema, piece.file, formats)
        note(row_format)
        for batch in batches:
            for name in columns:
                _check_offsets(batch.column(name))
            for part in range(0, batch.num_rows, BATCH_ROWS):
                yield from _rows(batch.slice(part, BATCH_ROWS), row_format, columns)
        if batches is reader and stream.read(1):
            raise Refused(
                f"dataset: {quoted(piece.file)} goes on after the end of its Arrow stream; write each stream to a file of its "
                "own"
            )
    except (pa.ArrowException, OSError) as error:
        _refuse(file, piece, "Arrow", _FILE_MARK, error)


def _refuse(file: io.RawIOBase, piece: Piece, kind: str, mark: bytes, error: Exception) -> NoReturn:
    """Refuse a file that pyarrow cannot read. The message names its true format if the first bytes show it."""
    file.seek(0)
    head = file.read(HEAD_BYTES) or b""
    if not head.startswith(mark):
        refuse_others(head, piece.file)
    line = str(error).split("\n", 1)[0]
    raise Refused(f"dataset: {quoted(piece.file)} is not a readable {kind} file ({line}); write it anew") from error


def _check_offsets(column: Any) -> None:
    """Raise ArrowInvalid if a text lies outside its buffer.

    pyarrow itself does not check this. It reads there all the same, which may end the process. The texts are validated as
    bytes, because the checks find those that are not UTF-8.
    """
    if pa.types.is_dictionary(column.type):
        column.indices.validate(full=True)
        column = column.dictionary
    if _is_list(column.type):
        # The list alone, without its values: a full validation would refuse the file for a text that is not UTF-8.
        type(column).from_arrays(column.offsets, pa.nulls(len(column.values))).validate(full=True)
        _check_offsets(column.values)
        return
    if pa.types.is_struct(column.type):
        for part in range(column.type.num_fields):
            _check_offsets(column.field(part))
        return
    as_bytes = _AS_BYTES.get(column.type)
    (column.view(as_bytes) if as_bytes else column).validate(full=as_bytes is not None)


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _columns(schema: Any, file: str, formats: RowFormats) -> tuple[RowFormat, list[str]]:
    """Return the format of the rows by the schema, and the names of its columns.

    Raises:
        Refused: the schema fits no format. A column of turns is refused with the format that reads it.
    """
    names = schema.names
    # An object as a row of this schema has it, with texts in the place of all values but lists of turns.
    sample: dict[str, object] = dict.fromkeys(names, "")
    for name, kind in zip(names, schema.types, strict=True):
        if _is_list(kind) and pa.types.is_struct(kind.value_type):
            sample[name] = [dict.fromkeys([part.name for part in kind.value_type], "")]
    found = formats.choose(file, [sample])
    row_format = found or formats.fallback
    if row_format.name == "columns":
        refuse_chat(file, sample, row_format)
    if not found:
        refuse_no_turns(file, names, formats)
    return row_format, [names[place] for place in index(names, file, row_format)]


def _rows(batch: Any, row_format: RowFormat, columns: list[str]) -> Iterator[Row]:
    values = [_values(batch.column(name)) for name in columns]
    if row_format.is_pair:
        dialogues, summaries = values
        return zip(dialogues, summaries, repeat(None), strict=False)
    return starmap(row_format.row, zip(*values, strict=True))


def _begin(group: Any) -> int:
    column = group.column(0)
    first = column.dictionary_page_offset
    return int(column.data_page_offset if first is None else first)


def _values(column: Any) -> list[object]:
    """Return the column's values. A value that is neither text nor a list is 0, or None if it is null.

    pyarrow does not check whether a string is UTF-8. Bytes that are not become lone surrogates, which the checks find.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if _is_list(kind):
        return [_list(value) for value in column.cast(_without_times(column.type))]
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        return [None if is_null else 0 for is_null in column.is_null().to_pylist()]
    try:
        values: list[object] = column.to_pylist()
    except UnicodeDecodeError:
        binary = column.cast(kind).cast(pa.large_binary()).to_pylist()
        values = [value if value is None else value.decode("utf-8", "surrogateescape") for value in binary]
    return values


def _without_times(kind: Any) -> Any:
    """Return the type of a list of turns without their dates and times, which no format reads, and which may not fit Python's.

    Python has no nanoseconds and no years before 1 or after 9999, and the time zones of a function's machine may be few.
    """
    if not (_is_list(kind) and pa.types.is_struct(kind.value_type)):
        return kind
    turn = kind.value_type
    fields = [turn.field(part) for part in range(turn.num_fields)]
    inner = kind.value_field.with_type(pa.struct([field for field in fields if not pa.types.is_temporal(field.type)]))
    return pa.large_list(inner) if pa.types.is_large_list(kind) else pa.list_(inner)


def _list(value: Any) -> object:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return BROKEN
