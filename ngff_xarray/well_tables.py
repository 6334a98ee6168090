"""Tables with a row a well (treatments, doses, counts), joined to the plate by the well's name."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import xarray as xr

from ngff_xarray.errors import Issue, SelectionError, StoreError, UnsupportedError
from ngff_xarray.model import Plate
from ngff_xarray.spec import hcs
from ngff_xarray.text import printable

if TYPE_CHECKING:
    import pandas as pd

KEY = "well_table"
"""The attribute of a plate that holds its table: beside OME's, written and read with the plate."""

_TAKEN = frozenset({"path", "well", "row", "column", "field", "fields", "acquisition"})
_SAID = ("row", "column")  # of a table with names of wells they say nothing new
_NAME = re.compile(r"([A-Za-z]+)[\s/_-]*0*(\d+)")
_SHOWN = 5  # wells that are named in a message


def join(
    tree: xr.DataTree, table: Any, *, unmatched: Literal["raise", "drop"] = "raise"
) -> xr.DataTree:
    """Return a plate with a table's columns: in ``.wells``, and along the wells of ``to_array``.

    Parameters
    ----------
    tree
        The plate.
    table
        A DataFrame, a dict of columns, or the path of a CSV or TSV file. The wells are in a column
        ``well``, in the index, or in two columns ``row`` and ``column``, and spelt as ``"B/3"``,
        ``"B3"``, ``"B03"`` or ``"b3"``. One row a well; columns that were joined before are
        replaced by those of the same name.
    unmatched
        What to do with wells that the plate does not list: ``"raise"``, or ``"drop"`` them.
        Wells of the plate that the table lacks have missing values, and are an issue.

    Returns
    -------
    xarray.DataTree
        The plate; ``to_zarr`` writes the table with it, as the attribute ``well_table``, dates as
        text.

    Raises
    ------
    SelectionError
        If a well is there twice, not in the plate, or nothing says which well a row is of.
    UnsupportedError
        If a column holds what JSON does not have.
    StoreError
        If the file cannot be read.

    Examples
    --------
    >>> wells = [{"path": "A/1", "rowIndex": 0, "columnIndex": 0}]
    >>> document = {"wells": wells, "rows": [{"name": "A"}], "columns": [{"name": "1"}]}
    >>> plate = xr.DataTree(xr.Dataset(attrs={"ome": {"plate": document}}))
    >>> joined(join(plate, {"well": ["A01"], "drug": ["none"], "dose": [0.5]}))
         drug  dose
    well
    A/1  none   0.5
    """
    if unmatched not in ("raise", "drop"):
        raise SelectionError(f"unmatched: expected 'raise' or 'drop', found {unmatched!r}")
    plate = hcs.parse_plate(tree.attrs["ome"]["plate"])
    frame = _by_path(_frame(table), named(plate), unmatched)
    known = joined(tree)
    whole = frame.reindex([well.path for well in plate.wells])
    for name in known.columns.difference(frame.columns, sort=False):
        whole.insert(0, name, known[name].reindex(whole.index))
    made = tree.copy(deep=False)
    columns = {str(name): [_plain(value) for value in whole[name]] for name in whole.columns}
    _check_json(columns)
    made.attrs = {**tree.attrs, KEY: {"well": list(whole.index), **columns}}
    made.encoding = {**tree.encoding, "issues": (*_issues(tree), *_lacking(whole.index, frame))}
    return made


def joined(tree: xr.DataTree) -> pd.DataFrame:
    """Return the table that a plate was joined with, by the path of the well.

    Without columns where there is none, or where an attribute of this name is none of ours.
    """
    import pandas as pd

    said: Any = tree.attrs.get(KEY)
    columns = {str(name): values for name, values in said.items()} if _is_table(said) else {}
    paths = columns.pop("well", [])
    frame = pd.DataFrame(columns, index=pd.Index(paths, name="well", dtype=object))
    return frame.loc[:, [name for name in frame.columns if name not in _TAKEN]]


def _is_table(said: object) -> bool:
    """Tell whether an attribute of a store, which may hold anything, is a table of wells."""
    if not isinstance(said, Mapping) or not isinstance(said.get("well"), list):
        return False
    paths = said["well"]
    lists = [values for values in said.values() if isinstance(values, list)]
    return (
        len(lists) == len(said)
        and {len(values) for values in lists} == {len(paths)}
        and all(isinstance(path, str) for path in paths)
        and len(set(paths)) == len(paths)
        and not any(isinstance(v, list | dict) for values in lists for v in values)
    )


def _frame(table: Any) -> pd.DataFrame:
    import pandas as pd

    if isinstance(table, str | os.PathLike):
        path = Path(table)
        try:
            separator = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
            return pd.read_csv(path, sep=separator, skipinitialspace=True, encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{printable(path, 500)}: cannot be read as a table: {error}"
            ) from error
    if isinstance(table, pd.Series):
        table = table.to_frame(name=table.name or "value")
    if isinstance(table, pd.DataFrame):
        return table
    if isinstance(table, Mapping):
        try:
            return pd.DataFrame(dict(table))
        except ValueError as error:
            raise SelectionError(f"these columns are no table: {error}") from error
    raise SelectionError(
        "expected a DataFrame, a dict of columns or the path of a CSV file, found "
        f"{type(table).__name__}"
    )


def named(plate: Plate) -> Callable[[str], str | None]:
    """Return what finds the path of a well by what people call it: ``"B/3"``, ``"b03"``."""
    spellings = _spellings(plate)
    return lambda name: spellings.get(name) or spellings.get(plainly(name))


def _spellings(plate: Plate) -> dict[str, str]:
    """Return the path of every well by all that it may be called; what means two is left out."""
    exact = {f"{well.row}/{well.column}": well.path for well in plate.wells}
    exact |= {well.path: well.path for well in plate.wells}
    joint = [(name.replace("/", ""), path) for name, path in exact.items()]
    plain = [(plainly(name), path) for name, path in joint]
    return {**_clear(plain), **_clear(joint), **exact}


def _clear(names: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for name, path in names:
        found.setdefault(name, set()).add(path)
    return {name: path for name, (path, *others) in found.items() if not others}


def plainly(name: str) -> str:
    """Return the name of a well without leading zeros, its letters large.

    Examples
    --------
    >>> plainly("b/03"), plainly("P 24"), plainly("1/2")
    ('B3', 'P24', '1/2')
    """
    match = _NAME.fullmatch(name.strip())
    return f"{match[1].upper()}{match[2]}" if match else name.strip()


def _by_path(
    table: pd.DataFrame,
    path_of: Callable[[str], str | None],
    unmatched: Literal["raise", "drop"],
) -> pd.DataFrame:
    """Return a table with the path of the well as index, one row each."""
    names, frame = _names(table)
    paths = [path_of(name) for name in names]
    unknown = [name for name, path in zip(names, paths, strict=True) if path is None]
    if unknown and unmatched == "raise":
        raise SelectionError(
            f"the plate does not list the wells {_some(unknown)} of the table: correct them, or "
            "leave them out with unmatched='drop'"
        )
    frame = frame.set_axis(paths, axis="index").loc[[path is not None for path in paths]]
    frame.index.name = "well"
    twice = frame.index[frame.index.duplicated()]
    if len(twice):
        raise SelectionError(
            f"the table has several rows of the wells {_some(twice)}: make one of them first, "
            "such as table.groupby('well').mean()"
        )
    bad = [str(name) for name in frame.columns if str(name) in _TAKEN]
    if bad:
        raise SelectionError(f"the column {bad[0]!r} is there already: rename that of the table")
    return frame


def _names(table: pd.DataFrame) -> tuple[list[str], pd.DataFrame]:
    """Return the name of the well of every row, and the other columns."""
    import pandas as pd

    known = {str(name).strip().lower(): name for name in reversed(table.columns)}
    sides = [known[name] for name in _SAID if name in known]
    if "well" in known:
        names = table[known["well"]].tolist()
        sides = [known["well"], *(name for name in sides if str(name) in _SAID)]
    elif len(sides) == 2:
        rows, columns = (table[name].tolist() for name in sides)
        names = list(zip(rows, columns, strict=True))
    elif isinstance(table.index, pd.RangeIndex):
        raise SelectionError(
            "expected a column 'well', wells in the index, or the columns 'row' and 'column'; "
            f"found {_some(table.columns)}"
        )
    else:
        names, sides = table.index.tolist(), [name for name in sides if str(name) in _SAID]
    return [_name(value) for value in names], table.drop(columns=sides)


def _name(value: Any) -> str:
    parts = value if isinstance(value, tuple) else (value,)
    # a column of numbers with gaps is one of floats
    texts = [str(int(p)) if isinstance(p, float) and p.is_integer() else str(p) for p in parts]
    return "/".join(text.strip() for text in texts)


def _some(names: Iterable[Any]) -> str:
    found = [printable(name, 40) for name in names]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(repr(name) for name in found[:_SHOWN]) + more


def _plain(value: Any) -> Any:
    """Return what JSON has for a value of numpy or pandas; None for one that is missing."""
    import pandas as pd

    item = value.item() if hasattr(value, "item") else value
    if item is pd.NaT or item is pd.NA or (isinstance(item, float) and math.isnan(item)):
        return None
    return item.isoformat() if hasattr(item, "isoformat") else item


def _check_json(columns: Mapping[str, list[Any]]) -> None:
    for name, values in columns.items():
        try:
            json.dumps(values, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise UnsupportedError(
                f"the column {printable(name, 80)!r} holds something that is no number, text or "
                f"date: convert or drop it: {printable(error, 200)}"
            ) from error


def _issues(tree: xr.DataTree) -> tuple[Issue, ...]:
    return tuple(issue for issue in tree.encoding.get("issues", ()) if issue.path != KEY)


def _lacking(paths: Iterable[str], frame: pd.DataFrame) -> list[Issue]:
    lacking = [path for path in paths if path not in frame.index]
    if not lacking:
        return []
    return [Issue(KEY, f"the table has no row of the wells {_some(lacking)}")]
