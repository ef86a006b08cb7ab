"""Parquet and Arrow as rows, in memory that does not grow with the file. Imported when asked only, as pyarrow is with it."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.encoding import HEAD_BYTES, refuse_others
from data_prep.shapes import index, refuse_turns
from pipeline.errors import Refused, quoted

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

    from data_prep.rows import Row
    from data_prep.shapes import TextColumns
    from pipeline.contracts.data import Piece

BATCH_ROWS = 256
BUFFER_BYTES = 512 * 1024
"""Read of a column at once. Without it, and with pre_buffer, pyarrow reads a row group's whole column into memory."""
_FILE_MARK = b"ARROW1"
"""With it the file format begins (Arrow columnar format, "IPC File Format")."""
_PARQUET_MARK = b"PAR1"
"""With it a Parquet file begins (Parquet's format, "File format")."""
_AS_BYTES = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}


def read_columnar(
    suffix: str, file: io.RawIOBase, stream: io.BufferedReader[Any], piece: Piece, fields: TextColumns
) -> Iterator[Row]:
    """The rows of a file by the suffix of its format; the arguments are those of the format's reader.

    Raises:
        Refused: as `read_parquet`.
    """
    if suffix == ".parquet":
        return read_parquet(file, piece, fields)
    return read_arrow(file, stream, piece, fields)


def read_parquet(file: io.RawIOBase, piece: Piece, fields: TextColumns) -> Iterator[Row]:
    """The rows of the row groups that begin in `piece`.

    Raises:
        Refused: no Parquet file, a mapped column that is not there, or data that cannot be decoded.
    """
    # The other pools keep what was freed; the system's gives it back.
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER_BYTES)
        columns = _columns(parquet.schema_arrow, piece.file, fields)
        meta = parquet.metadata
        groups = [i for i in range(meta.num_row_groups) if piece.start <= _begin(meta.row_group(i)) < piece.end]
        for batch in parquet.iter_batches(BATCH_ROWS, row_groups=groups, columns=columns, use_threads=False):
            dialogues, summaries = (_values(batch.column(name)) for name in columns)
            yield from zip(dialogues, summaries, repeat(None), strict=False)
    except (pa.ArrowException, OSError) as error:  # OSError is Arrow's for a page that is cut or damaged
        _refuse(file, piece, "Parquet", _PARQUET_MARK, error)


def read_arrow(file: io.RawIOBase, stream: io.BufferedReader[Any], piece: Piece, fields: TextColumns) -> Iterator[Row]:
    """The rows of an Arrow file: IPC's stream, as datasets' save_to_disk writes it, or its file format, also called Feather.

    Args:
        file: to seek in, for the file format.
        stream: the same from its beginning to its end, for the stream.
        piece: the whole file.
        fields: the columns.

    Raises:
        Refused: as `read_parquet`.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        if file.read(len(_FILE_MARK)) == _FILE_MARK:
            reader = pa.ipc.open_file(file)
            batches = map(reader.get_batch, range(reader.num_record_batches))
        else:
            reader = batches = pa.ipc.open_stream(stream)
        columns = _columns(reader.schema, piece.file, fields)
        for batch in batches:
            for name in columns:
                _check_offsets(batch.column(name))
            for part in range(0, batch.num_rows, BATCH_ROWS):
                rows = batch.slice(part, BATCH_ROWS)
                dialogues, summaries = (_values(rows.column(name)) for name in columns)
                yield from zip(dialogues, summaries, repeat(None), strict=False)
        if batches is reader and stream.read(1):
            raise Refused(
                f"dataset: {quoted(piece.file)} goes on after the end of its Arrow stream; write each stream to a file of its "
                "own"
            )
    except (pa.ArrowException, OSError) as error:
        _refuse(file, piece, "Arrow", _FILE_MARK, error)


def _refuse(file: io.RawIOBase, piece: Piece, kind: str, mark: bytes, error: Exception) -> NoReturn:
    """Refuse a file that pyarrow cannot read, as what it is if its first bytes tell."""
    file.seek(0)
    head = file.read(HEAD_BYTES) or b""
    if not head.startswith(mark):
        refuse_others(head, piece.file)
    line = str(error).split("\n", 1)[0]
    raise Refused(
        f"dataset: {quoted(piece.file)} is no {kind} file that can be read ({line}); write it anew"
    ) from error


def _check_offsets(column: Any) -> None:
    """Raise ArrowInvalid if a text would lie outside its buffer: pyarrow reads there unasked, which may end the process.

    Looked at as bytes, so that what is no UTF-8 is left to the checks.
    """
    if pa.types.is_dictionary(column.type):
        column.indices.validate(full=True)
        column = column.dictionary
    as_bytes = _AS_BYTES.get(column.type)
    (column.view(as_bytes) if as_bytes else column).validate(full=as_bytes is not None)


def _columns(schema: Any, file: str, fields: TextColumns) -> list[str]:
    """The two columns by name. None is a list of turns, nor is another one, if they are not there."""
    names = schema.names
    for field in fields if set(fields) <= set(names) else names:
        kind = schema.field(names.index(field)).type
        if (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and pa.types.is_struct(kind.value_type):
            refuse_turns(file, field, [part.name for part in kind.value_type])
    return [names[place] for place in index(names, file, fields)]


def _begin(group: Any) -> int:
    column = group.column(0)
    first = column.dictionary_page_offset
    return int(column.data_page_offset if first is None else first)


def _values(column: Any) -> list[object]:
    """The column's values; of what is no text only whether there is anything.

    pyarrow does not look whether a string is UTF-8: what is not becomes lone surrogates, for the checks to find.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        return [None if is_null else 0 for is_null in column.is_null().to_pylist()]
    try:
        values: list[object] = column.to_pylist()
    except UnicodeDecodeError:
        binary = column.cast(kind).cast(pa.large_binary()).to_pylist()
        values = [value if value is None else value.decode("utf-8", "surrogateescape") for value in binary]
    return values
