"""Colours and tables as users have them -> the entries of an ``image-label`` document."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ngff_xarray.errors import SelectionError, UnsupportedError
from ngff_xarray.render import label_colors
from ngff_xarray.text import printable

if TYPE_CHECKING:
    import pandas as pd

VALUE = "label-value"
_VALUES = (VALUE, "label")  # what a column of label values is called; the first one wins


def property_entries(properties: Any) -> list[dict[str, Any]]:
    """Return the entries of ``properties``, one a label value.

    Parameters
    ----------
    properties
        A DataFrame, a dict of columns, or dicts by row. The label values are in the column
        ``"label-value"`` or ``"label"``, or in the index of a DataFrame. What is missing (None,
        NaN) is left out.

    Raises
    ------
    SelectionError
        If a label value is missing, no integer, or there twice.
    UnsupportedError
        If there is something that JSON does not have.

    Examples
    --------
    >>> property_entries({"label": np.array([3, 7]), "area": np.array([2.5, np.nan])})
    [{'label-value': 3, 'area': 2.5}, {'label-value': 7}]
    """
    entries: dict[int, dict[str, Any]] = {}
    for row in _rows(properties):
        named = next((name for name in _VALUES if name in row), None)
        if named is None:
            raise SelectionError(
                f"properties: a row has no {VALUE!r} or 'label': {printable(dict(row), 200)}"
            )
        value = label_value(row[named], "properties")
        if value in entries:
            raise SelectionError(f"properties: the label {value} is there twice: keep one row")
        plain = {str(key): _plain(item) for key, item in row.items() if key != named}
        kept = {key: item for key, item in plain.items() if item is not None}
        entries[value] = {VALUE: value, **kept}
    found = list(entries.values())
    if not _is_json(found):
        wrong = next(entry for entry in found if not _is_json(entry))
        raise UnsupportedError(
            f"properties: those of label {wrong[VALUE]} hold something that JSON does not have: "
            f"convert or drop it: {printable(wrong, 200)}"
        )
    return found


def _rows(properties: Any) -> Iterable[Mapping[Any, Any]]:
    """Return the rows of a table, each with its label value in a column."""
    import pandas as pd

    if isinstance(properties, Mapping):
        try:
            properties = pd.DataFrame(dict(properties))
        except ValueError as error:
            raise SelectionError(f"properties: these columns are no table: {error}") from error
        if properties.empty and not len(properties.columns):
            return []
    if isinstance(properties, pd.DataFrame):
        frame = properties
        if not any(name in frame.columns for name in _VALUES):
            if isinstance(frame.index, pd.MultiIndex) or _is_numbered(frame):
                raise SelectionError(
                    "properties: expected the label values in a column 'label' or in the index; "
                    "found rows without them, and the columns "
                    f"{printable(', '.join(map(str, frame.columns)), 200)}"
                )
            frame = frame.rename_axis(index=VALUE).reset_index()
        columns = [frame.iloc[:, i].tolist() for i in range(frame.shape[1])]
        names = list(frame.columns)
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    rows = list(properties) if isinstance(properties, Iterable) else [properties]
    if not all(isinstance(row, Mapping) for row in rows):
        raise SelectionError(
            "properties: expected a DataFrame, a dict of columns or a list of dicts, found "
            f"{type(properties).__name__}"
        )
    return rows


def _is_numbered(frame: pd.DataFrame) -> bool:
    """Tell whether the rows have numbers only because rows must have some."""
    return frame.index.name is None and frame.index.tolist() == list(range(len(frame)))


def label_value(value: Any, where: str) -> int:
    """Return a label value, of whatever type of number it is.

    Raises
    ------
    SelectionError
        If it is no integer.
    """
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not is_number or not -(2**63) <= value < 2**64 or value != int(value):
        raise SelectionError(f"{where}: expected an integer as label, found {printable(value, 80)}")
    return int(value)


def _plain(value: Any) -> Any:
    """Return what JSON has for a value of numpy or pandas; None for one that is missing."""
    import pandas as pd

    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return None
    return value


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def color_entries(colors: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """Return the entries of ``colors``.

    Parameters
    ----------
    colors
        Label value -> a name or ``"#rrggbb"`` as matplotlib knows them, or three or four numbers:
        integers of 0 to 255, or floats of 0 to 1.

    Raises
    ------
    SelectionError
        If a label value is no integer, or a colour none.

    Examples
    --------
    >>> color_entries({1: "#ff0000", 2: (0, 128, 255)})
    [{'label-value': 1, 'rgba': [255, 0, 0, 255]}, {'label-value': 2, 'rgba': [0, 128, 255, 255]}]
    """
    if not isinstance(colors, Mapping):
        raise SelectionError(
            f"colors: expected a dict, label -> colour, found {type(colors).__name__}"
        )
    return [
        {VALUE: label_value(value, "colors"), "rgba": _rgba(color)}
        for value, color in colors.items()
    ]


def completed(
    colors: list[dict[str, Any]], properties: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return colours and properties so that both have the same labels, as validators demand.

    Colours that are added are those that the labels are shown in without; properties that are added
    say nothing but the label.

    Examples
    --------
    >>> colors = [{"label-value": 1, "rgba": [255, 0, 0, 255]}]
    >>> colors, properties = completed(colors, [{"label-value": 2, "area": 3}])
    >>> colors[1]
    {'label-value': 2, 'rgba': [105, 140, 55, 255]}
    >>> properties
    [{'label-value': 2, 'area': 3}, {'label-value': 1}]
    """
    if not colors or not properties:
        return colors, properties
    missing = _missing(colors, properties)
    chosen = [{VALUE: value, "rgba": rgba} for value, rgba in _shown(missing).items()]
    return [*colors, *chosen], [*properties, *({VALUE: v} for v in _missing(properties, colors))]


def _shown(values: list[int]) -> dict[int, list[int]]:
    """Return the colours that labels are shown in if none is stored."""
    found: dict[int, list[int]] = {}
    for is_large, dtype in ((False, np.int64), (True, np.uint64)):
        some = [value for value in values if (value >= 2**63) == is_large]
        found |= dict(zip(some, label_colors(np.array(some, dtype)).tolist(), strict=True))
    return found


def _missing(entries: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[int]:
    known = {entry[VALUE] for entry in entries}
    return [entry[VALUE] for entry in others if entry[VALUE] not in known]


def _rgba(color: Any) -> list[int]:
    found = _from_text(color) if isinstance(color, str) else _from_numbers(color)
    if found is None:
        raise SelectionError(
            f"colors: {printable(color, 80)!r} is no colour: expected '#rrggbb', a name, or three "
            "or four numbers (integers of 0 to 255, floats of 0 to 1)"
        )
    return found


def _from_text(color: str) -> list[int] | None:
    from matplotlib.colors import to_rgba

    try:
        return [round(part * 255) for part in to_rgba(color)]
    except ValueError:
        return None


def _from_numbers(color: Any) -> list[int] | None:
    try:
        parts = np.asarray(color)
    except ValueError:  # of several lengths
        return None
    if parts.shape not in ((3,), (4,)) or parts.dtype.kind not in "iuf":
        return None
    most = 255 if parts.dtype.kind in "iu" else 1
    if not ((parts >= 0) & (parts <= most)).all():
        return None
    found = [round(float(part) * 255 / most) for part in parts]
    return found if len(found) == 4 else [*found, 255]
