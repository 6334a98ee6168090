"""A function over blocks -> a table, in which nothing stands twice."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ngff_xarray import store
from ngff_xarray.analyse.blocks import Block
from ngff_xarray.analyse.functions import Function
from ngff_xarray.analyse.running import Crew
from ngff_xarray.analyse.work import Work
from ngff_xarray.errors import MissingDependencyError, SelectionError, StoreError
from ngff_xarray.progress import Bar
from ngff_xarray.text import printable

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

ENDINGS = (".csv", ".parquet")
"""Of files that tables are written to."""


@dataclass(frozen=True)
class Tabling:
    """Making a table of an image a block at a time.

    Parameters
    ----------
    function
        What makes the rows of a block with its halo.
    work
        Where they are kept; None for who wants them back.
    """

    function: Function
    work: Work | None

    def rows(self, number: int) -> pd.DataFrame | None:
        """Return the rows of a block that lie in it, not in its halo; or keep them.

        Raises
        ------
        BlockError
            If the function fails, or returns no table.
        """
        import pandas as pd

        block = self.function.blocks[number]
        found = self.function.called(block)
        if not isinstance(found, pd.DataFrame):
            raise self.function.error(
                block, "the function returned pixels; of the first block a table"
            )
        own = inside(found, self.function, block)
        if self.work is None:
            return own
        self.work.put(number, _columns(own, self.function, block))
        return None


def inside(table: pd.DataFrame, function: Function, block: Block) -> pd.DataFrame:
    """Return the rows of a table that lie in a block: columns called as axes say where.

    A place on the border of two blocks belongs to the second.
    """
    keep = np.ones(len(table), bool)
    region = function.region(block)
    for dim, side, n in zip(function.dims, block.core, function.blocks.shape, strict=True):
        if dim in table.columns and dim in region and table[dim].dtype.kind in "iuf":
            place = table[dim].to_numpy()
            low, high = region[dim].start, region[dim].stop
            is_rising = function.is_rising(dim)
            opens, closes = (
                (side.start > 0, side.stop < n) if is_rising else (side.stop < n, side.start > 0)
            )
            keep &= (place >= low) | (not opens)
            keep &= (place < high) | (not closes)
    return table[keep].reset_index(drop=True)


def _columns(table: pd.DataFrame, function: Function, block: Block) -> dict[str, NDArray[Any]]:
    """Return the columns of a table as arrays of numbers or text."""
    found = {}
    for name, column in table.items():
        values = column.to_numpy()
        if values.dtype.kind == "O" or str(column.dtype).startswith("str"):
            if not all(isinstance(value, str) for value in values):
                raise function.error(
                    block,
                    f"the column {printable(name, 40)!r} of the table holds something that is "
                    "neither numbers nor text",
                )
            values = np.array(values.tolist(), dtype=np.str_)
        found[f"column {name}"] = values
    return found


def rows_of_block(tabling: Tabling, number: int) -> Any:
    """Return or keep the rows of a block; for workers."""
    return tabling.rows(number)


def tabled(
    tabling: Tabling, crew: Crew, bar: Bar, failed: Callable[[int, Exception], None]
) -> pd.DataFrame:
    """Return the table of all blocks, in their order.

    Parameters
    ----------
    tabling
        What is done.
    crew
        Who does it.
    bar
        Counts the blocks.
    failed
        Is told of each block of which the function failed; raises, or lets it be without rows.
    """
    import pandas as pd

    count = len(tabling.function.blocks)
    done = set() if tabling.work is None else tabling.work.done()
    bar.more(count)
    bar.did(len(done))
    tables: dict[int, pd.DataFrame] = {}
    todo = [number for number in range(count) if number not in done]
    for number, found in crew.run(rows_of_block, tabling, todo, bar):
        if isinstance(found, Exception):
            failed(number, found)
        elif found is not None:
            tables[number] = found
        else:
            done.add(number)
    if tabling.work is not None:
        for number in done:
            record: Mapping[str, NDArray[Any]] = tabling.work.record(number) or {}
            columns = {name.removeprefix("column "): values for name, values in record.items()}
            tables[number] = pd.DataFrame(columns)
    ordered = [tables[number] for number in sorted(tables)]
    if not ordered:
        return pd.DataFrame()
    return pd.concat(ordered, ignore_index=True)


def write(
    table: pd.DataFrame,
    target: str,
    storage_options: Mapping[str, Any] | None,
    *,
    index: bool = False,
) -> None:
    """Write a table to a file or URL, with or without its index; a file is there once it is whole.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    import fsspec

    file = io.BytesIO()
    if target.endswith(".csv"):
        table.to_csv(file, index=index)
    else:
        table.to_parquet(file, index=index)
    try:
        fs, path = fsspec.url_to_fs(target, **(storage_options or {}))
        with fs.transaction, fs.open(path, "wb") as out:
            out.write(file.getvalue())
    except OSError as error:
        shown = printable(target, 500)
        raise StoreError(f"{shown}: cannot be written: {store.reason(error)}") from error


def check_format(target: str) -> None:
    """Check that a file of its ending can be written, before what it is to hold is computed.

    Raises
    ------
    MissingDependencyError
        If that needs a package that is not installed.
    """
    if target.lower().endswith(".parquet"):
        try:
            import pyarrow  # noqa: F401  # pandas writes with it
        except ImportError as error:
            raise MissingDependencyError("pyarrow", "parquet", "writing Parquet") from error


def check_new(target: str, storage_options: Mapping[str, Any] | None, *, replace: bool) -> None:
    """Check that a table can be written: its format, and that no file is in the way.

    Raises
    ------
    SelectionError
        If there is a file that is not to be replaced.
    MissingDependencyError
        If the format needs a package that is not installed.
    """
    import fsspec

    check_format(target)
    fs, path = fsspec.url_to_fs(target, **(storage_options or {}))
    if fs.exists(path) and not replace:
        raise SelectionError(
            f"{printable(target, 500)}: there is a file: give replace=True, or another name"
        )
