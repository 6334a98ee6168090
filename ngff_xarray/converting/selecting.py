"""Which images of a file are wanted, and what they are together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ngff_xarray.converting.found import Found, Layout, Original
from ngff_xarray.converting.omexml import Document
from ngff_xarray.errors import SelectionError
from ngff_xarray.text import printable


def selected(
    described: Mapping[int, Callable[[], Any]],
    names: Mapping[int, str],
    series: int | str | None,
) -> tuple[dict[str, Callable[[], Any]], Layout]:
    """Return the images that are wanted by path, and what they are together.

    Raises
    ------
    SelectionError
        If there is no such image.
    """
    if series is None or series == "all":
        found = {str(number): supply for number, supply in described.items()}
        return found, "image" if len(found) == 1 else "collection"
    wanted = [number for number in described if series in (number, str(number), names.get(number))]
    if not wanted:
        known = ", ".join(
            f"{n} {printable(names.get(n) or '', 40)!r}" for n in list(described)[:20]
        )
        raise SelectionError(f"there is no series {printable(series, 40)!r}; there are {known}")
    return {"0": described[wanted[0]]}, "image"


def on_plate(
    format_: str,
    document: Document,
    described: Mapping[int, Callable[[], Any]],
    original: Original,
    files: Sequence[str] = (),
) -> Found:
    """Return the images of a plate by their wells and fields."""
    plate = document.plate
    assert plate is not None
    return Found(
        format_,
        {path: described[number] for path, number in plate.fields.items() if number in described},
        "plate",
        original,
        name=plate.name,
        rows=plate.rows,
        columns=plate.columns,
        acquisitions=dict(plate.acquisitions) or None,
        dropped=document.dropped,
        files=files,
    )
