"""The single mends: each changes a metadata document in place, and notes what it changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ngff_xarray import spec
from ngff_xarray.model import Json
from ngff_xarray.render import channel_colors, hex_color
from ngff_xarray.spec.documents import split_flat
from ngff_xarray.spec.report import Report
from ngff_xarray.spec.values import is_number, parse_color
from ngff_xarray.units import unit_name

Document = dict[str, Any]
Note = Callable[[str, Any, Any, str], None]  # path, before, after, reason

_NO_UNIT = frozenset({"", "null", "none", "unit"})
_NUMBERED = re.compile(r"(\d{1,3})\.(\d{1,3})(?!\d)")
_FLAT = tuple(name for name, module in spec.VERSIONS.items() if module.ZARR_FORMAT == 2)
_NEWEST = max(tuple(map(int, name.split("."))) for name in spec.VERSIONS)


def entries(value: Any) -> list[Any]:
    """Return a list that a document should have; an empty one for anything else."""
    return value if isinstance(value, list) else []


# ---- where the metadata stand, and their version -----------------------------------------------


def mend_place(attributes: Document, above: str | None, note: Note) -> str | None:
    """Put what belongs below ``ome`` there (Zarr v3); return what the group is, None if not OME's.

    Parameters
    ----------
    attributes
        The attributes of the group.
    above
        The version of the group above it; lists of labels and series without one may be
        anybody's.
    note
        Takes what was changed.
    """
    kind = spec.detect_kind(attributes)
    said = attributes.get("ome")
    if kind is None and isinstance(said, dict):
        beside = {key: value for key, value in attributes.items() if key != "ome"}
        if above is None or spec.detect_kind(beside) != "labels group":
            return None
        said["labels"] = attributes.pop("labels")
        note("", ["labels"], "ome", "in Zarr v3 the list of labels stands below 'ome'")
        return "labels group"
    listing = kind in ("labels group", "series") and above is None
    if kind is None or "ome" in attributes or listing:
        return kind
    if spec.detect_version(attributes, kind) != "0.4":
        return kind
    moved, _ = split_flat(attributes, kind)
    for key in moved:
        del attributes[key]
    for entry in [*entries(moved.get("multiscales")), *moved.values()]:
        if isinstance(entry, dict):
            entry.pop("version", None)
    version = "0.5" if above in (None, *_FLAT) or _has_form(moved) else above
    attributes["ome"] = {"version": version, **moved}
    reason = f"in Zarr v3 the metadata stand below 'ome', in version {version}"
    note("", sorted(moved), "ome", reason)
    return kind


def certain_version(attributes: Document, kind: str, above: str | None) -> str | None:
    """Return the version that a group follows, or None where nothing leaves no doubt about it.

    Its form tells, or what it states, or else the group above it.
    """
    said = attributes.get("ome")
    document = said if isinstance(said, dict) else attributes
    stated = document.get("version") if document is said else _stated(document, kind)
    number = _NUMBERED.match(stated) if isinstance(stated, str) else None
    if number is not None and (int(number[1]), int(number[2])) > _NEWEST:
        return None
    version = spec.detect_version(attributes, kind)
    flat_plate = document is attributes and kind == "plate" and _has_indices(document["plate"])
    if kind == "scene" or flat_plate or _has_form(document):
        return version
    if number is not None and number[0] == version:
        return version
    fits = above is not None and (above in _FLAT) == (document is attributes)
    return above if fits else None


def mend_version(attributes: Document, version: str, note: Note) -> None:
    """Write the version wherever another one, or none, is stated."""
    said = attributes.get("ome")
    if isinstance(said, dict):
        stated = said.get("version")
        report = Report("version")
        spec.VERSIONS[version].READERS["series"]({"version": stated, "series": []}, report)
        if report.issues:
            said["version"] = version
            note("version", stated, version, "the version that the document follows")
        return
    if version not in _FLAT:
        return
    objects: list[tuple[str, Any]] = [
        (f"multiscales[{i}]", entry)
        for i, entry in enumerate(entries(attributes.get("multiscales")))
        if isinstance(entry, dict) and _follows(entry, version)
    ]
    objects += [(key, attributes.get(key)) for key in ("plate", "well", "image-label")]
    for path, entry in objects:
        if isinstance(entry, dict) and entry.get("version") != version:
            note(f"{path}.version", entry.get("version"), version, "the version it follows")
            entry["version"] = version


def _stated(document: Document, kind: str) -> Any:
    """Return the version that a group states until 0.4: in the first of its objects."""
    images = entries(document.get("multiscales"))
    found = images[0] if images else document.get("image-label" if kind == "label" else kind)
    return found.get("version") if isinstance(found, dict) else None


def _has_form(document: Json) -> bool:
    """Tell whether the first image has axes or systems, which tell its version."""
    images = entries(document.get("multiscales"))
    first = images[0] if images and isinstance(images[0], dict) else {}
    return bool(entries(first.get("axes"))) or "coordinateSystems" in first


def _follows(entry: Document, version: str) -> bool:
    """Tell whether an object of ``multiscales`` may be of a version, by its form or its word."""
    document = {"multiscales": [entry]}
    if _has_form(document):
        return spec.detect_version(document, "image") == version
    return entry.get("version") not in _FLAT


def _has_indices(plate: Any) -> bool:
    wells = entries(plate.get("wells")) if isinstance(plate, dict) else []
    return bool(wells) and isinstance(wells[0], dict) and "rowIndex" in wells[0]


# ---- levels, arrays, units ---------------------------------------------------------------------


def mend_levels(
    entry: Document, where: str, arrays: Mapping[str, Document | None], note: Note
) -> None:
    """Drop the levels that are not there, if there is any.

    ``arrays`` holds the metadata by path as it stands in the document, None where there is no
    array; of a path that it does not hold, nothing is known.
    """
    kept = []
    for i, dataset in enumerate(entries(entry.get("datasets"))):
        path = dataset.get("path") if isinstance(dataset, dict) else None
        if any(arrays.values()) and isinstance(path, str) and arrays.get(path, dataset) is None:
            note(f"{where}.datasets[{i}]", dataset, None, "there is no array at this path")
        else:
            kept.append(dataset)
    if "datasets" in entry and len(kept) < len(entries(entry["datasets"])):
        entry["datasets"] = kept


def mend_units(axes: Any, where: str, note: Note) -> None:
    """Write units as the specification does, and drop those that name none."""
    for i, axis in enumerate(entries(axes)):
        if not isinstance(axis, dict) or "unit" not in axis:
            continue
        unit, place = axis["unit"], f"{where}[{i}].unit"
        if unit is None or (isinstance(unit, str) and unit.strip().lower() in _NO_UNIT):
            del axis["unit"]
            note(place, unit, None, "it names no unit")
        elif isinstance(unit, str) and unit_name(unit) not in (None, unit):
            axis["unit"] = unit_name(unit)
            note(place, unit, axis["unit"], "the specification's name of this unit")


def mend_systems(document: Document, where: str, note: Note) -> None:
    """Mend the units of all coordinate systems of an image or a scene."""
    for i, system in enumerate(entries(document.get("coordinateSystems"))):
        if isinstance(system, dict):
            mend_units(system.get("axes"), f"{where}coordinateSystems[{i}].axes", note)


def mend_names(path: str, array: Document, names: Sequence[str], note: Note) -> None:
    """Give an array of Zarr v3 the names of the axes, where it has none."""
    stored = array.get("dimension_names")
    unnamed = stored is None or (isinstance(stored, list) and not any(stored))
    named = bool(names) and all(isinstance(name, str) for name in names)
    if named and unnamed and len(entries(array.get("shape"))) == len(names):
        array["dimension_names"] = list(names)
        note(f"{path}/zarr.json: dimension_names", stored, list(names), "the names of the axes")


# ---- channels ----------------------------------------------------------------------------------


def mend_channels(omero: Any, array: Document, note: Note) -> None:
    """Complete colours and windows of channels; ``array`` is the metadata of the first level."""
    channels = entries(omero.get("channels")) if isinstance(omero, dict) else []
    limits = _limits(array)
    colors = channel_colors(len(channels))
    for i, channel in enumerate(channels):
        if isinstance(channel, dict):
            where = f"omero.channels[{i}]"
            _mend_color(channel, f"{where}.color", hex_color(colors[i])[1:], note)
            _mend_window(channel, f"{where}.window", limits, note)


def _mend_color(channel: Document, where: str, drawn: str, note: Note) -> None:
    """Write a colour as six digits; a channel without one gets the one that it is drawn in."""
    stored = channel.get("color")
    rgb = parse_color(stored)
    if rgb is not None:
        written = hex_color(rgb)[1:].upper()
        if str(stored).upper() != written:
            channel["color"] = written
            note(where, stored, written, "six hexadecimal digits")
    elif stored is None:
        channel["color"] = drawn.upper()
        note(where, stored, channel["color"], "the colour that it is drawn in")


def _mend_window(channel: Document, where: str, limits: tuple[int, int] | None, note: Note) -> None:
    """Complete a window: its limits are those of the data type, and all of it is shown."""
    stored = channel.get("window")
    window = dict(stored) if isinstance(stored, dict) else {}
    said = [window.get(key) for key in ("min", "max", "start", "end")]
    odd = stored is not None and not isinstance(stored, dict)
    if odd or not all(value is None or is_number(value) for value in said):
        return
    for i, (key, shown) in enumerate((("min", "start"), ("max", "end"))):
        if window.get(key) is None and limits is not None:
            window[key] = limits[i]
        if window.get(shown) is None and window.get(key) is not None:
            window[shown] = window[key]
    complete = all(window.get(key) is not None for key in ("min", "max", "start", "end"))
    if window != stored and complete:
        channel["window"] = window
        note(where, stored, window, "the range of the data type")


def _limits(array: Document) -> tuple[int, int] | None:
    """Return the least and the largest value of an array of integers; None for others."""
    try:
        dtype = np.dtype(array.get("data_type", array.get("dtype", "float64")))
    except (TypeError, ValueError):
        return None
    if dtype.kind not in "iu":
        return None
    top = 2 ** (8 * dtype.itemsize)
    return (0, top - 1) if dtype.kind == "u" else (-top // 2, top // 2 - 1)
