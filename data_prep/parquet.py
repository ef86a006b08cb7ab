"""Parquet as rows, in memory that does not grow with the file. The one file that imports pyarrow, and only when asked."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.rows import index
from pipeline.errors import Refused

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

    from data_prep.rows import Fields, Row
    from pipeline.shards import Piece

BATCH_ROWS = 256
BUFFER_BYTES = 512 * 1024
"""Read of a column at once. Without it, and with pre_buffer, pyarrow reads a row group's whole column into memory."""


def read_parquet(file: io.RawIOBase, piece: Piece, fields: Fields) -> Iterator[Row]:
    """The rows of the row groups that begin in `piece`.

    Raises:
        Refused: no Parquet file, a mapped column that is not there, or data that cannot be decoded.
    """
    # The other pools keep what was freed; the system's gives it back.
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER_BYTES)
        names = parquet.schema_arrow.names
        columns = [names[index(names, piece.file, field)] for field in fields]
        meta = parquet.metadata
        groups = [i for i in range(meta.num_row_groups) if piece.start <= _begin(meta.row_group(i)) < piece.end]
        for batch in parquet.iter_batches(BATCH_ROWS, row_groups=groups, columns=columns, use_threads=False):
            dialogues, summaries = (_values(batch.column(name)) for name in columns)
            yield from zip(dialogues, summaries, repeat(None), strict=False)
    except (pa.ArrowException, OSError) as error:  # OSError is Arrow's for a page that is cut or damaged
        line = str(error).split("\n", 1)[0]
        raise Refused(f"dataset: '{piece.file}' is no Parquet file that can be read ({line}); write it anew") from error


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
