"""Mends what is wrong in a store's metadata and leaves no doubt: no pixel is read or changed."""

from __future__ import annotations

import copy
import html
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from zarr.abc.store import Store

from ngff_xarray import spec, store
from ngff_xarray.errors import NgffError, StoreError
from ngff_xarray.model import Collection, Fields, Image, Plate, Scene
from ngff_xarray.render import channel_colors, hex_color
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.spec.values import is_number, parse_color
from ngff_xarray.store import Document, Group, Source
from ngff_xarray.text import printable
from ngff_xarray.units import unit_name

_NO_UNIT = frozenset({"", "null", "none", "unit"})


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to mend.

    Parameters
    ----------
    group
        The group, below the store that was asked for.
    path
        Where it stands, as a JSON path below the group's OME document.
    before, after
        What stands there, and what is to; None where there is nothing.
    reason
        Why.
    """

    group: str
    path: str
    before: Any
    after: Any
    reason: str

    def __str__(self) -> str:
        where = f"{self.group}: {self.path}" if self.group else self.path
        before, after = printable(shown(self.before), 90), printable(shown(self.after), 90)
        return f"{printable(where, 200)}: {before} -> {after} ({self.reason})"


@dataclass(frozen=True, slots=True)
class Repair:
    """What can be mended: prints the changes, and makes them when told to.

    Parameters
    ----------
    source
        The store.
    changes
        Every change, in the order of the groups.
    documents
        Key -> content: the documents as they are to be.
    place
        Where they are written.
    """

    source: str
    changes: tuple[Change, ...]
    documents: Mapping[str, Document]
    place: Source

    def apply(self) -> tuple[str, ...]:
        """Write the changed documents, each beside a backup; return the keys of the backups.

        Every backup is there before the first document is changed. A document's backup stands
        beside it, with ``.backup-`` and the time behind its name.

        Raises
        ------
        StoreError
            If the store cannot be written, or a document has changed since it was read.
        """
        if not self.documents:
            return ()
        target = _writable(self.place)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        backups = {}
        try:
            for key in self.documents:
                found = store.fetch_bytes(Source(target, "", self.source), key)
                if found is None:
                    raise StoreError(f"{self.source}: {key} is not there any more")
                backups[f"{key}.backup-{stamp}"] = found
            for key, content in backups.items():
                store.put_bytes(target, key, content)
            for key, document in self.documents.items():
                store.put_bytes(target, key, json.dumps(document, indent=2).encode())
        except NgffError:
            raise
        except Exception as error:  # whatever the store raises
            raise StoreError(f"{self.source}: cannot be written: {error}") from error
        return tuple(backups)

    def __str__(self) -> str:
        if not self.changes:
            return f"{self.source}: nothing to mend"
        lines = [f"{self.source}: {len(self.changes)} to mend"]
        return "\n".join([*lines, *(f"  {change}" for change in self.changes)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def repair(
    source: Any,
    *,
    group: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Repair:
    """Return what can be mended in a store without guessing; nothing is changed yet.

    Versions that the documents contradict, levels that are listed and not there, dimension names
    that arrays lack, units that are empty or abbreviated, and channels whose colour or window is
    missing or written in another way.

    Parameters
    ----------
    source
        A path, a URL, or a zarr group or store.
    group
        The group to start from, where it is not the root.
    storage_options
        For fsspec, where the source is a URL.

    Returns
    -------
    Repair
        Prints the changes; ``.apply()`` makes them, and keeps what was there.

    Raises
    ------
    StoreError
        If the store cannot be read.
    NotOmeError
        If there is no group with attributes.

    Examples
    --------
    >>> from ngff_xarray import sample
    >>> repair(sample("cell")).changes
    ()
    """
    place, found = store.open_group(source, group=group, storage_options=storage_options)
    return repair_group(place, found)


def repair_group(place: Source, found: Group) -> Repair:
    """Return what can be mended in a group and below; see `repair`."""
    mending = _Mending(place)
    _mend_group(place, found, "", mending)
    return Repair(place.url, tuple(mending.changes), mending.finished(found), place)


class _Mending:
    """Gathers the changes and the documents they change."""

    def __init__(self, root: Source) -> None:
        self.root = root
        self.changes: list[Change] = []
        self.documents: dict[str, Document] = {}

    def document(self, source: Source, name: str) -> Document:
        """Return the document under a key, to be changed."""
        key = f"{source.path}/{name}".strip("/")
        found = self.documents.get(key)
        if found is None:
            found = copy.deepcopy(store.run(store.fetch_json(source, name))) or {}
        return found

    def keep(self, source: Source, name: str, document: Document) -> None:
        self.documents[f"{source.path}/{name}".strip("/")] = document

    def finished(self, root: Group) -> dict[str, Document]:
        """Return the changed documents, and the consolidated metadata that repeats them."""
        if not root.documents or not self.documents:
            return self.documents
        name = "zarr.json" if root.zarr_format == 3 else ".zmetadata"
        whole = self.document(self.root, name)
        entries = whole.get("consolidated_metadata", whole).get("metadata", {})
        prefix = f"{self.root.path}/" if self.root.path else ""
        for key, document in self.documents.items():
            path = key.removeprefix(prefix)
            path = path.removesuffix("/zarr.json") if root.zarr_format == 3 else path
            if path in entries:
                entries[path] = document
        self.keep(self.root, name, whole)
        return self.documents


def _writable(place: Source) -> Store:
    """Return the store of a place, opened for writing."""
    if not place.store.read_only:
        return place.store
    try:
        return place.store.with_read_only(read_only=False)
    except NotImplementedError as error:
        raise StoreError(f"{place.url}: this kind of store cannot be written") from error


def _mend_group(source: Source, group: Group, path: str, mending: _Mending) -> None:
    """Mend a group and all groups below it."""
    kind = spec.detect_kind(group.attributes)
    if kind is None:
        return
    name = "zarr.json" if group.zarr_format == 3 else ".zattrs"
    whole = mending.document(source, name)
    attributes = whole.setdefault("attributes", {}) if group.zarr_format == 3 else whole
    before = json.dumps(whole, sort_keys=True)
    version = spec.detect_version(group.attributes, kind)
    note = _Note(path, mending)
    if group.zarr_format == 3 and version in ("0.1", "0.2", "0.3", "0.4"):
        version = _mend_namespace(attributes, kind, version, note)
    namespaced = spec.VERSIONS[version].ZARR_FORMAT == 3
    document = attributes["ome"] if namespaced else attributes
    _mend_version(document, kind, version, note)
    if kind in ("image", "label"):
        _mend_image(source, group, document, note)
    if json.dumps(whole, sort_keys=True) != before:
        mending.keep(source, name, whole)
    for child in _children(source, group, kind):
        below = store.run(store.fetch_child_group(source, group, child))
        if below is not None:
            _mend_group(source.child(child), below, f"{path}/{child}".strip("/"), mending)


@dataclass(frozen=True, slots=True)
class _Note:
    """Notes the changes of one group."""

    group: str
    mending: _Mending

    def __call__(self, path: str, before: Any, after: Any, reason: str) -> None:
        change = Change(self.group, path, copy.deepcopy(before), copy.deepcopy(after), reason)
        self.mending.changes.append(change)


def _children(source: Source, group: Group, kind: str) -> Iterator[str]:
    """Yield the paths of the groups next below that may hold metadata of OME's."""
    if kind in ("image", "label"):
        yield "labels"
        return
    try:
        content = spec.read(group.attributes, Report(source.url), kind=kind)[2]
    except NgffError:
        return
    if isinstance(content, Plate):
        yield from (well.path for well in content.wells)
    elif isinstance(content, Fields | Scene):
        yield from content.paths
    elif isinstance(content, Collection) and kind == "collection":
        yield from _series(source, group)
    elif isinstance(content, Collection) and kind == "labels group":
        yield from content.paths or ()


def _series(source: Source, group: Group) -> Iterator[str]:
    yield "OME"
    listing = store.run(store.fetch_child_group(source, group, "OME"))
    found = spec.detect_kind(listing.attributes) if listing is not None else None
    if listing is not None and found == "series":
        content = spec.read(listing.attributes, Report(source.url), kind=found)[2]
        yield from (content.paths or () if isinstance(content, Collection) else ())
        return
    number = 0
    while store.run(store.fetch_child_group(source, group, str(number))) is not None:
        yield str(number)
        number += 1


_MOVED = ("multiscales", "omero", "image-label", "plate", "well", "labels", "series")


def _mend_namespace(attributes: Document, kind: str, version: str, note: _Note) -> str:
    """Put what stands at the top of Zarr v3 attributes below ``ome``: version 0.5."""
    if version != "0.4":
        return version
    keys = [*_MOVED, "bioformats2raw.layout"]
    moved = {key: attributes.pop(key) for key in keys if key in attributes}
    for entry in [*_entries(moved.get("multiscales")), *moved.values()]:
        if isinstance(entry, dict):
            entry.pop("version", None)
    attributes["ome"] = {"version": "0.5", **moved}
    note("", sorted(moved), "ome", "in Zarr v3 the metadata stand below 'ome', in version 0.5")
    return "0.5"


def _entries(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mend_version(document: Document, kind: str, version: str, note: _Note) -> None:
    module = spec.VERSIONS[version]
    if module.ZARR_FORMAT == 3:
        stated = document.get("version")
        report = Report("version")
        module.READERS["series"]({"version": stated, "series": []}, report)
        if report.issues:
            document["version"] = version
            note("version", stated, version, "the version that the document follows")
        return
    places = [(f"multiscales[{i}]", e) for i, e in enumerate(_entries(document.get("multiscales")))]
    places += [(key, document.get(key)) for key in ("plate", "well", "image-label")]
    for path, entry in places:
        if isinstance(entry, dict) and entry.get("version") != version:
            note(f"{path}.version", entry.get("version"), version, "the version it follows")
            entry["version"] = version


def _mend_image(source: Source, group: Group, document: Document, note: _Note) -> None:
    for i, entry in enumerate(_entries(document.get("multiscales"))):
        if not isinstance(entry, dict):
            continue
        where = f"multiscales[{i}]"
        arrays = _mend_levels(source, group, entry, where, note)
        _mend_units(entry.get("axes"), f"{where}.axes", note)
        for j, system in enumerate(_entries(entry.get("coordinateSystems"))):
            if isinstance(system, dict):
                _mend_units(system.get("axes"), f"{where}.coordinateSystems[{j}].axes", note)
        if i == 0:
            _mend_dimension_names(source, group, document, arrays, note)
            _mend_channels(document.get("omero"), arrays, note)


def _mend_levels(
    source: Source, group: Group, entry: Document, where: str, note: _Note
) -> dict[str, Document]:
    """Drop levels that are not there; return the metadata of those that are."""
    datasets = _entries(entry.get("datasets"))
    paths = [d.get("path") if isinstance(d, dict) else None for d in datasets]
    found = {
        path: store.run(store.fetch_array(source, group, path.strip("/")))
        for path in paths
        if isinstance(path, str)
    }
    arrays = {path: document for path, document in found.items() if document is not None}
    missing = [i for i, path in enumerate(paths) if path in found and path not in arrays]
    if arrays and missing:
        for i in missing:
            note(f"{where}.datasets[{i}]", datasets[i], None, "there is no array at this path")
        entry["datasets"] = [d for i, d in enumerate(datasets) if i not in missing]
    return arrays


def _mend_units(axes: Any, where: str, note: _Note) -> None:
    for i, axis in enumerate(_entries(axes)):
        if not isinstance(axis, dict) or "unit" not in axis:
            continue
        unit, place = axis["unit"], f"{where}[{i}].unit"
        if unit is None or (isinstance(unit, str) and unit.strip().lower() in _NO_UNIT):
            del axis["unit"]
            note(place, unit, None, "it names no unit")
        elif isinstance(unit, str) and unit_name(unit) not in (None, unit):
            axis["unit"] = unit_name(unit)
            note(place, unit, axis["unit"], "the specification's name of this unit")


def _mend_dimension_names(
    source: Source, group: Group, document: Document, arrays: Mapping[str, Document], note: _Note
) -> None:
    """Give arrays of Zarr v3 the names of the axes, where they have none."""
    if group.zarr_format != 3:
        return
    try:
        image = spec.read({"ome": document}, Report(source.url), kind="image")[2]
    except NgffError:
        return
    if not isinstance(image, Image):
        return
    names = [axis.extra.get("name", axis.name) for axis in image.multiscale.axes]
    for path, found in arrays.items():
        stored = found.get("dimension_names")
        unnamed = stored is None or (isinstance(stored, list) and not any(stored))
        if unnamed and len(_entries(found.get("shape"))) == len(names):
            place = source.child(path.strip("/"))
            array = note.mending.document(place, "zarr.json")
            array["dimension_names"] = names
            note.mending.keep(place, "zarr.json", array)
            note(f"{path}/zarr.json: dimension_names", stored, names, "the names of the axes")


def _mend_channels(omero: Any, arrays: Mapping[str, Document], note: _Note) -> None:
    channels = omero.get("channels") if isinstance(omero, dict) else None
    limits = _limits(next(iter(arrays.values()), {}))
    colors = channel_colors(len(_entries(channels)))
    for i, channel in enumerate(_entries(channels)):
        if isinstance(channel, dict):
            _mend_color(channel, f"omero.channels[{i}].color", hex_color(colors[i])[1:], note)
            _mend_window(channel, f"omero.channels[{i}].window", limits, note)


def _mend_color(channel: Document, where: str, drawn: str, note: _Note) -> None:
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


def _mend_window(
    channel: Document, where: str, limits: tuple[float, float] | None, note: _Note
) -> None:
    stored = channel.get("window")
    window = dict(stored) if isinstance(stored, dict) else {}
    if stored is not None and not isinstance(stored, dict):
        return
    for key, other, limit in (("min", "start", 0), ("max", "end", 1)):
        known = [window[k] for k in (key, other) if is_number(window.get(k))]
        value = known[0] if known else (limits[limit] if limits else None)
        for name in (key, other):
            if not is_number(window.get(name)) and value is not None:
                whole = limits[limit] if limits and name == key else value
                window[name] = whole
    if window != stored and set(window) >= {"min", "max", "start", "end"}:
        channel["window"] = window
        note(where, stored, window, "the range of the data type")


def _limits(array: Document) -> tuple[float, float] | None:
    """Return the least and the largest value of an array of integers; None for others."""
    try:
        dtype = np.dtype(array.get("data_type", array.get("dtype", "float64")))
    except TypeError:
        return None
    if dtype.kind not in "iu":
        return None
    top = 2 ** (8 * dtype.itemsize)
    return (0, top - 1) if dtype.kind == "u" else (-top // 2, top // 2 - 1)
