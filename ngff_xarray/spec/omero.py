"""The ``omero`` document: channels and rendering defaults. The same in every version."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ngff_xarray.model import Channel, Json, Window
from ngff_xarray.spec import rules
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.spec.values import is_number, parse_color

_COLOR = re.compile(r"[0-9a-fA-F]{6}")

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
    entries = _entries(omero, count)
    return tuple(
        Channel(
            name,
            parse_color(entry.get("color")),
            _window(entry),
            active=entry.get("active") is not False,
            gamma=_gamma(entry),
            inverted=entry.get("inverted") is True,
        )
        for name, entry in zip(_names(entries), entries, strict=True)
    )


def names(omero: Json | None, count: int) -> list[str]:
    """Return the names of ``count`` channels, as `channels` gives them."""
    return list(_names(_entries(omero, count)))


def _entries(omero: Json | None, count: int) -> list[Json]:
    """Return what the document says of each of ``count`` channels."""
    stored = _as_list((omero or {}).get("channels"))
    entries: list[Json] = [entry if isinstance(entry, dict) else {} for entry in stored[:count]]
    return entries + [{}] * (count - len(entries))


def _names(entries: Sequence[Json]) -> Iterator[str]:
    return _distinct(_name(entry, i) for i, entry in enumerate(entries))


def by_name(omero: Json | None) -> dict[str, Channel]:
    """Return all channels of the document, by the name that `channels` gives them."""
    count = len(_as_list((omero or {}).get("channels")))
    return {channel.name: channel for channel in channels(omero, count)}


def select(omero: Json, names: Sequence[str]) -> Json:
    """Return the document with the channels of these names (as `channels` gives them), in order.

    Examples
    --------
    >>> stored = {"channels": [{"label": "DAPI"}, {"label": "GFP"}], "rdefs": {}}
    >>> select(stored, ["GFP"])
    {'channels': [{'label': 'GFP'}], 'rdefs': {}}
    """
    stored = _as_list(omero.get("channels"))
    wanted = list(names)
    if len(wanted) >= len(stored) and wanted == list(_names(_entries(omero, len(wanted)))):
        return omero  # all that there were, though perhaps fewer are described
    if list(names) == [str(i) for i in range(len(names))]:
        return omero  # the names of none of them
    known = dict(zip(by_name(omero), stored, strict=True))
    return {**omero, "channels": [known.get(name, {"label": name}) for name in names]}


_COLORS = ("FF00FF", "00FF00", "00FFFF", "FFFF00", "FF0000", "0000FF")


def made(names: Sequence[str], dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return a document for channels of which nothing but the names is known.

    Examples
    --------
    >>> made(["DAPI"], np.dtype("uint8"))["channels"][0]["window"]
    {'min': 0, 'max': 255, 'start': 0, 'end': 255}
    """
    least, most = 0, 1
    if dtype.kind in "iu":
        least, most = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    window = {"min": least, "max": most, "start": least, "end": most}
    colors = ("FFFFFF",) if len(names) == 1 else _COLORS
    return {
        "channels": [
            {"label": name, "color": colors[i % len(colors)], "window": dict(window)}
            for i, name in enumerate(names)
        ]
    }


def is_true_color(count: int, dtype: np.dtype[Any]) -> bool:
    """Tell whether channels that nobody described are red, green and blue: three of bytes."""
    return count == 3 and dtype == np.uint8


def true_color(names: Sequence[str]) -> dict[str, Any]:
    """Return a document for red, green and blue as they are.

    Examples
    --------
    >>> true_color(["0", "1", "2"])["channels"][2]
    {'label': '2', 'color': '0000FF', 'window': {'min': 0, 'max': 255, 'start': 0, 'end': 255}}
    """
    document = made(names, np.dtype(np.uint8))
    colors = ("FF0000", "00FF00", "0000FF")
    described = zip(document["channels"], colors, strict=True)
    return {"channels": [{**channel, "color": color} for channel, color in described]}


def with_windows(omero: Json, windows: Sequence[Json]) -> Json:
    """Return the document with the window of every channel.

    Examples
    --------
    >>> with_windows({"channels": [{"label": "DAPI"}]}, [{"start": 0, "end": 9}])
    {'channels': [{'label': 'DAPI', 'window': {'start': 0, 'end': 9}}]}
    """
    both = zip(_as_list(omero.get("channels")), windows, strict=True)
    return {**omero, "channels": [{**channel, "window": dict(window)} for channel, window in both]}


def has_windows(omero: Json) -> bool:
    """Tell whether the range of any channel is said.

    Examples
    --------
    >>> has_windows({"channels": [{"label": "DAPI"}]}), has_windows({"channels": [{"window": {}}]})
    (False, True)
    """
    stored = _as_list(omero.get("channels"))
    return not stored or any("window" in entry for entry in stored if isinstance(entry, dict))


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
    return Window(first, last)


def _gamma(entry: Json) -> float:
    """Return the power that brightness is raised to: the coefficient of family "polynomial".

    The coefficient of "linear" changes nothing. "exponential" and "logarithmic" depend on the
    range of the pixels in OMERO, and are drawn as if they were linear.
    """
    coefficient = entry.get("coefficient")
    if entry.get("family") != "polynomial" or not is_number(coefficient):
        return 1.0
    gamma = float(coefficient)
    return gamma if 0 < gamma < math.inf else 1.0


def check(value: Any, report: Report) -> Json | None:
    """Return the document to keep, after noting what is wrong in it; None if it is no object."""
    if not isinstance(value, dict):
        return None
    stored = value.get("channels")
    if not isinstance(stored, list):
        found = f"expected a list, found {shown(stored)}"
        report.error("omero.channels", rules.OMERO_CHANNELS, found)
    for i, channel in enumerate(_as_list(stored)):
        where = f"omero.channels[{i}]"
        if not isinstance(channel, dict):
            found = f"expected an object, found {shown(channel)}"
            report.error(where, rules.OMERO_CHANNELS, found)
            continue
        _check_color(channel.get("color"), f"{where}.color", report)
        _check_window(channel.get("window"), f"{where}.window", report)
        for key, kind in (("label", str), ("family", str), ("active", bool)):
            if key in channel and not isinstance(channel[key], kind):
                found = f"expected {_TYPES[kind]}, found {shown(channel[key])}; not used"
                report.error(f"{where}.{key}", rules.OMERO_FIELD, found)
    return {key: item for key, item in value.items() if key != "version"}


_TYPES: Mapping[type, str] = {str: "text", bool: "true or false"}


def _check_color(value: Any, where: str, report: Report) -> None:
    if value is None:
        report.error(where, rules.OMERO_COLOR, "is missing: a colour is chosen")
    elif not isinstance(value, str) or not _COLOR.fullmatch(value):
        found = f"expected six hexadecimal digits, found {shown(value)}"
        early = isinstance(value, str) and report.version in ("0.1", "0.2", "0.3")
        (report.warn if early else report.error)(where, rules.OMERO_COLOR, found)


def _check_window(value: Any, where: str, report: Report) -> None:
    if value is None:
        found = "is missing: the contrast is chosen from the pixels"
        report.error(where, rules.OMERO_WINDOW, found)
        return
    if not isinstance(value, dict):
        report.error(where, rules.OMERO_WINDOW, f"expected an object, found {shown(value)}")
        return
    for key in ("min", "max", "start", "end"):
        if key not in value:
            report.error(f"{where}.{key}", rules.OMERO_WINDOW, "is missing")
        elif not is_number(value[key]):
            found = f"expected a number, found {shown(value[key])}"
            report.error(f"{where}.{key}", rules.OMERO_WINDOW, found)
    if is_number(value.get("start")) and value.get("start") == value.get("end"):
        found = "starts where it ends: the contrast is chosen from the pixels"
        report.warn(where, rules.OMERO_WINDOW, found)
