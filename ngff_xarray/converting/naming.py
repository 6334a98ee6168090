"""What the names of files say of the images and planes in them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ngff_xarray.errors import SelectionError
from ngff_xarray.text import printable

KNOWN = ("t", "c", "z", "well", "row", "column", "field", "series")

_FIELD = re.compile(r"\{(\w+)(?::0?(\d*)d?)?\}|(\*)")


def pattern_of(text: str) -> re.Pattern[str]:
    r"""Return what finds t, c, z, … in the name of a file.

    Parameters
    ----------
    text
        ``"img_{c}_{z:03d}.tif"``, with ``*`` for anything, or a regular expression with groups.

    Raises
    ------
    SelectionError
        If it is neither, or has names that nothing is known by.

    Examples
    --------
    >>> pattern_of("img_{c}_{z:03d}.tif").fullmatch("img_DAPI_007.tif").groupdict()
    {'c': 'DAPI', 'z': '007'}
    >>> pattern_of(r"(?P<well>[A-H]\d\d)_.*\.tif").fullmatch("B03_x.tif").groupdict()
    {'well': 'B03'}
    """
    source = text if "(?P<" in text else _of_format(text)
    try:
        found = re.compile(source)
    except re.error as error:
        raise SelectionError(
            f"pattern={printable(text, 200)!r} is no regular expression: {error}"
        ) from error
    unknown = [name for name in found.groupindex if name not in KNOWN]
    if unknown or not found.groupindex:
        what = f"{unknown[0]!r} is unknown" if unknown else "it names nothing"
        raise SelectionError(
            f"pattern={printable(text, 200)!r}: {what}: expected names of {', '.join(KNOWN)}"
        )
    return found


def _of_format(text: str) -> str:
    """Return the regular expression for text with fields in braces."""
    parts, at = [], 0
    for match in _FIELD.finditer(text):
        parts.append(re.escape(text[at : match.start()]))
        name, digits, anything = match.groups()
        if anything:
            parts.append("[^/]*")
        elif digits is not None:
            count = "+" if not digits else f"{{{digits},}}"
            parts.append(f"(?P<{name}>[0-9]{count})")
        else:
            parts.append(f"(?P<{name}>[^/]+?)")
        at = match.end()
    return "".join([*parts, re.escape(text[at:])])


def glob_of(text: str) -> str:
    """Return the pattern of paths for text with fields in braces.

    Examples
    --------
    >>> glob_of("data/img_{c}_{z:03d}.tif")
    'data/img_*_*.tif'
    """
    return re.sub(r"\{[^}]*\}", "*", text)


def natural(text: str) -> list[tuple[int, int, str]]:
    """Return by what names are sorted: 2 before 10.

    Examples
    --------
    >>> sorted(["s10", "s2", "s1a"], key=natural)
    ['s1a', 's2', 's10']
    """
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def ordered(values: Iterable[str]) -> list[str]:
    """Return different values, in the order of numbers."""
    return sorted(set(values), key=natural)


def well_of(names: dict[str, str]) -> str | None:
    """Return the path of the well that names tell, None if they tell none.

    Raises
    ------
    SelectionError
        If it is no well.

    Examples
    --------
    >>> well_of({"well": "B03"}), well_of({"row": "B", "column": "12"}), well_of({"z": "1"})
    ('B/3', 'B/12', None)
    """
    row, column = names.get("row"), names.get("column")
    if "well" in names:
        found = re.fullmatch(r"([A-Za-z]+)[-_/]?([0-9]+)", names["well"])
        if found is None:
            raise SelectionError(
                f"{printable(names['well'])!r} is no well: expected one as B03; for others give a "
                "pattern with row and column"
            )
        row, column = found.groups()
    if row is None or column is None:
        return None
    return f"{_plain(row)}/{_plain(column)}"


def _plain(text: str) -> str:
    """Return the name of a row, column or field: letters and digits, numbers without zeros."""
    return str(int(text)) if text.isdecimal() else re.sub(r"[^A-Za-z0-9]", "", text) or "0"


def path_of(names: dict[str, str]) -> str:
    """Return where the image of a file goes: well and field, series, or ``""``.

    Examples
    --------
    >>> path_of({"well": "B03", "field": "01"}), path_of({"series": "day 1"}), path_of({"z": "1"})
    ('B/3/1', 'day_1', '')
    """
    well, field = well_of(names), names.get("field")
    if well is not None:
        return f"{well}/{_plain(field) if field is not None else '0'}"
    series = names.get("series", field)
    return "" if series is None else node_name(series)


def node_name(text: str) -> str:
    """Return text as the name of a group of a store.

    Examples
    --------
    >>> node_name("day 1 (µm)"), node_name("..")
    ('day_1_m', '_')
    """
    clean = re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_.")
    return clean or "_"
