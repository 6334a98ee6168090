"""The ``omero`` document: channels and rendering defaults. The same in every version."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ngff_xarray.model import Channel, Json, Window
from ngff_xarray.spec.values import is_number, parse_color

MAX_NAME = 1000  # numpy pads every name to the longest one


def channels(omero: Json | None, count: int) -> tuple[Channel, ...]:
    """Return ``count`` channels, named apart from each other.

    Parameters
    ----------
    omero
        The document, or None where there is none.
    count
        The length of the channel axis (1 without one). Channels that the document lacks are
        named by their index, those it has beyond are left out.

    Examples
    --------
    >>> [channel.name for channel in channels({"channels": [{"label": "DAPI"}] * 2}, 3)]
    ['DAPI', 'DAPI_2', '2']
    """
    stored = (omero or {}).get("channels")
    entries = [entry if isinstance(entry, dict) else {} for entry in _as_list(stored)][:count]
    entries += [{}] * (count - len(entries))
    names = _distinct(_name(entry, i) for i, entry in enumerate(entries))
    return tuple(
        Channel(
            name, parse_color(entry.get("color")), _window(entry), entry.get("active") is not False
        )
        for name, entry in zip(names, entries, strict=True)
    )


def by_name(omero: Json | None) -> dict[str, Channel]:
    """Return all channels of the document, by the name that `channels` gives them."""
    count = len(_as_list((omero or {}).get("channels")))
    return {channel.name: channel for channel in channels(omero, count)}


def default_index(omero: Json | None, axis_type: str | None, name: str) -> int | None:
    """Return the index that ``rdefs`` asks to show first on the time or the z axis."""
    rdefs = (omero or {}).get("rdefs")
    key = "defaultT" if axis_type == "time" else "defaultZ" if name.lower() == "z" else None
    value = rdefs.get(key) if isinstance(rdefs, dict) and key else None
    return int(value) if is_number(value) else None


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _name(entry: Json, index: int) -> str:
    label = entry.get("label")
    return label[:MAX_NAME] if isinstance(label, str) and label else str(index)


def _distinct(names: Iterator[str]) -> Iterator[str]:
    """Yield each name, with a number behind those that stood before."""
    taken: set[str] = set()
    repeats: dict[str, int] = {}
    for name in names:
        unique = name
        while unique in taken:
            repeats[name] = repeats.get(name, 1) + 1
            unique = f"{name}_{repeats[name]}"
        taken.add(unique)
        yield unique


def _window(entry: Json) -> Window | None:
    """Return the display range, or None if it is missing, empty or without end."""
    window = entry.get("window")
    if not isinstance(window, dict):
        return None
    start, end = window.get("start"), window.get("end")
    if not (is_number(start) and is_number(end)):
        return None
    first, last = float(start), float(end)
    if first == last or not math.isfinite(last - first):
        return None
    return Window(last, first) if entry.get("inverted") is True else Window(first, last)
