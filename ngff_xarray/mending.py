"""Mends what is wrong in a store's metadata and leaves no doubt; no pixel is read for that."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from zarr.abc.store import Store

from ngff_xarray import leftovers, mends, spec, store, unfinished
from ngff_xarray.errors import Issue, MetadataError, NgffError, StoreError
from ngff_xarray.leftovers import Leftover
from ngff_xarray.model import Collection, Fields, Image, Plate, Scene
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.spec.values import is_relative
from ngff_xarray.storage import Access
from ngff_xarray.store import Document, Group, Source, ZarrFormat
from ngff_xarray.text import printable
from ngff_xarray.turns import turn


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
class Rewrite:
    """What stood under a key of the store when it was read, and what is to stand there."""

    before: bytes
    after: bytes


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
        The documents that are to be written, by their key in the store.
    place
        Where they are written.
    leftovers
        What writers that were killed have left.
    """

    source: str
    changes: tuple[Change, ...]
    documents: Mapping[str, Rewrite]
    place: Source
    leftovers: tuple[Leftover, ...] = ()

    def apply(self) -> tuple[str, ...]:
        """Write the changed documents, each beside a backup; return the keys of the backups.

        Every backup is there before the first document is changed. A document's backup stands
        beside it, with ``.backup-`` and the time behind its name. What killed writers have left is
        ended or deleted after that, without a backup.

        Raises
        ------
        StoreError
            If the store cannot be written, or a document has changed since it was read: then
            nothing is written.
        """
        backups: tuple[str, ...] = ()
        if self.documents:
            place = store.writable(self.place)
            with turn(place, unfinished.WAIT):
                backups = self._rewritten(place.store)
        for each in self.leftovers:
            each.end()
        return backups

    def _rewritten(self, target: Store) -> tuple[str, ...]:
        """Write the documents; return the keys of their backups."""
        root = Source(target, "", self.place.url)
        for key, document in self.documents.items():
            now = store.fetch_bytes(root, key)
            if now != document.before:
                what = "is not there any more" if now is None else "has changed since it was read"
                raise StoreError(f"{_name(self.place)}: {printable(key, 200)} {what}")
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        backups = {f"{key}.backup-{stamp}": d.before for key, d in self.documents.items()}
        try:
            for key, content in backups.items():
                store.put_bytes(target, key, content)
            for key, document in self.documents.items():
                store.put_bytes(target, key, document.after)
        except Exception as error:  # whatever the store raises
            found = printable(error, store.MAX_SHOWN)
            raise StoreError(f"{_name(self.place)}: cannot be written: {found}") from error
        return tuple(backups)

    def __str__(self) -> str:
        source = printable(self.source, store.MAX_SHOWN)
        found = (*self.changes, *self.leftovers)
        if not found:
            return f"{source}: nothing to mend"
        lines = [f"{source}: {len(found)} to mend"]
        return "\n".join([*lines, *(f"  {each}" for each in found)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def _name(place: Source) -> str:
    return printable(place.url, store.MAX_SHOWN)


def repair(
    source: Any,
    *,
    group: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Repair:
    """Return what can be mended in a store without guessing; nothing is changed yet.

    Versions that the documents contradict, levels that are listed and not there, dimension names
    that arrays lack, units that are empty or abbreviated, and channels whose colour or window is
    missing or written in another way. What writers that were killed have left is ended, so that the
    store is as it was or as it was to be, or deleted if it was never whole.

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
    place = store.open_source(source, group=group, access=Access(storage_options or {}))
    return repair_group(place, store.look(place))


def repair_group(place: Source, found: Group | None) -> Repair:
    """Return what can be mended in a group and below; see `repair`."""
    mending = _Mending(place.store, 3 if found is None else found.zarr_format)
    mending.leftovers += leftovers.beside(place)
    if found is None and mending.leftovers:
        return mending.repair(place)
    if found is None or not unfinished.is_marked(found.attributes):
        store.require_group(place, found)
    try:
        _mend_group(place, "", None, mending)
        return mending.repair(place)
    except RecursionError as error:
        issue = Issue("", "is nested too deeply to be mended", "error")
        raise MetadataError(_name(place), [issue]) from error


_NAMES: Mapping[ZarrFormat, tuple[str, str, str]] = {  # of groups, arrays, consolidated metadata
    2: (".zattrs", ".zarray", ".zmetadata"),
    3: ("zarr.json", "zarr.json", "zarr.json"),
}


class _Mending:
    """The documents of a store as they stand and as they are to be, and the changes.

    Consolidated metadata only repeat them: they are not read, and follow at the end.
    """

    def __init__(self, root: Store, zarr_format: ZarrFormat) -> None:
        self.zarr_format = zarr_format
        self.names = _NAMES[zarr_format]
        self.changes: list[Change] = []
        self.leftovers: list[Leftover] = []
        self._root = root
        self._known: dict[str, tuple[bytes, Document]] = {}

    def document(self, path: str, name: str) -> Document | None:
        """Return the document under a key, to be changed in place; None if there is none."""
        key = f"{path}/{name}".strip("/")
        if key not in self._known:
            source = Source(self._root, path, path)
            content = store.fetch_bytes(source, name)
            if content is None:
                return None
            self._known[key] = content, store.parse_json(source, name, content)
        return self._known[key][1]

    def group(self, path: str) -> Document | None:
        """Return the attributes of a group, to be changed in place; None if none can be read."""
        try:
            found = self.document(path, self.names[0])
        except NgffError:
            return None
        if found is None or self.zarr_format == 2:
            return found
        attributes = found.get("attributes")
        is_group = found.get("node_type") != "array" and isinstance(attributes, dict)
        return attributes if is_group else None

    def array(self, path: str) -> Document | None:
        """Return the metadata of an array, to be changed in place; None if there is none."""
        found = self.document(path, self.names[1])
        return None if found is None or found.get("node_type", "array") != "array" else found

    def repair(self, place: Source) -> Repair:
        """Return what was found."""
        changes, left = tuple(self.changes), tuple(self.leftovers)
        return Repair(place.url, changes, self._finished(), place, left)

    def _finished(self) -> dict[str, Rewrite]:
        """Return the documents that changed, and the consolidated metadata that repeat them."""
        for key in self._changed():
            path, _, name = key.rpartition("/")
            for above in _groups_above(path, itself=self.zarr_format == 2):
                self._mend_consolidated(above, path, name, self._known[key][1])
        return self._changed()

    def _mend_consolidated(self, above: str, path: str, name: str, document: Document) -> None:
        try:
            whole = self.document(above, self.names[2]) or {}
        except NgffError:  # which nobody else can read either
            return
        below = path.removeprefix(above).strip("/")
        key = below if self.zarr_format == 3 else f"{below}/{name}".strip("/")
        found = whole.get("consolidated_metadata") if self.zarr_format == 3 else whole
        listed = found.get("metadata") if isinstance(found, dict) else None
        entry = listed.get(key) if isinstance(listed, dict) else None
        if not isinstance(entry, dict) or not isinstance(listed, dict):
            return
        inner = "consolidated_metadata"
        kept = {inner: entry[inner]} if inner in entry else {}
        listed[key] = {k: v for k, v in document.items() if k != inner} | kept

    def _changed(self) -> dict[str, Rewrite]:
        found = {}
        for key, (content, document) in self._known.items():
            if json.dumps(document) != json.dumps(json.loads(content)):
                found[key] = Rewrite(content, json.dumps(document, indent=2).encode())
        return found


def _groups_above(path: str, itself: bool) -> Iterator[str]:
    """Yield the paths of the groups above a path, and its own, inner ones first."""
    if itself:
        yield path
    while path:
        path = path.rpartition("/")[0]
        yield path


@dataclass(frozen=True, slots=True)
class _Note:
    """Notes the changes of one group."""

    group: str
    mending: _Mending

    def __call__(self, path: str, before: Any, after: Any, reason: str) -> None:
        self.mending.changes.append(Change(self.group, path, before, after, reason))


def _mend_group(source: Source, path: str, above: str | None, mending: _Mending) -> None:
    """Mend a group and all groups below it; ``above`` is the version of the group above it."""
    attributes = mending.group(source.path)
    if attributes is None:
        return
    note = _Note(path, mending)
    mending.leftovers += leftovers.of_group(source, path, attributes, above, mending.zarr_format)
    if mending.zarr_format == 3:
        kind = mends.mend_place(attributes, above, note)
    else:
        kind = spec.detect_kind(attributes)
    if kind is None:
        return
    version = mends.certain_version(attributes, kind, above)
    if version is not None:
        mends.mend_version(attributes, version, note)
    said = attributes.get("ome")
    document = said if isinstance(said, dict) else attributes
    if kind in ("image", "label"):
        _mend_images(source, attributes, document, note)
    elif kind == "scene":
        scene = document.get("scene")
        mends.mend_systems(document, "", note)  # where drafts have them
        mends.mend_systems(scene if isinstance(scene, dict) else {}, "scene.", note)
    for child in filter(is_relative, _children(source, attributes, kind, mending)):
        _mend_group(source.child(child), f"{path}/{child}".strip("/"), version, mending)


def _children(source: Source, attributes: Document, kind: str, mending: _Mending) -> Iterable[str]:
    """Return the paths of the groups next below that may hold metadata of OME's."""
    if kind in ("image", "label"):
        return ("labels",)
    try:
        content = spec.read(attributes, Report(source.url), kind=kind)[2]
    except NgffError:
        return ()
    if isinstance(content, Plate):
        return [well.path for well in content.wells]
    if isinstance(content, Fields | Scene):
        return content.paths
    if isinstance(content, Collection) and kind == "labels group":
        return content.paths or ()
    return _series(source, mending) if kind == "collection" else ()


def _series(source: Source, mending: _Mending) -> Iterator[str]:
    """Yield ``OME`` and the images that it lists once it is mended, or those with numbers."""
    yield "OME"
    listing = mending.group(source.child("OME").path) or {}
    if spec.detect_kind(listing) == "series":
        content = spec.read(listing, Report(source.url), kind="series")[2]
        yield from (content.paths or () if isinstance(content, Collection) else ())
        return
    number = 0
    while mending.group(source.child(str(number)).path) is not None:
        yield str(number)
        number += 1


def _mend_images(source: Source, attributes: Document, document: Document, note: _Note) -> None:
    for i, entry in enumerate(mends.entries(document.get("multiscales"))):
        if not isinstance(entry, dict):
            continue
        where = f"multiscales[{i}]"
        found = _arrays(source, entry, note.mending)
        mends.mend_levels(entry, where, found, note)
        mends.mend_units(entry.get("axes"), f"{where}.axes", note)
        mends.mend_systems(entry, f"{where}.", note)
        arrays = {path: array for path, array in found.items() if array is not None}
        if note.mending.zarr_format == 3 and ("axes" in entry or "coordinateSystems" in entry):
            names = _axis_names(attributes, i)
            for path, array in arrays.items():
                mends.mend_names(path, array, names, note)
        if i == 0:
            mends.mend_channels(document.get("omero"), next(iter(arrays.values()), {}), note)


def _arrays(source: Source, entry: Document, mending: _Mending) -> dict[str, Document | None]:
    """Return the levels' arrays by path; paths that leave the group or cannot be read have none."""
    found: dict[str, Document | None] = {}
    for dataset in mends.entries(entry.get("datasets")):
        path = dataset.get("path") if isinstance(dataset, dict) else None
        if isinstance(path, str) and is_relative(path):
            try:
                found[path] = mending.array(source.child(path.strip("/")).path)
            except NgffError:  # it may be there
                continue
    return found


def _axis_names(attributes: Document, number: int) -> list[str]:
    """Return the names of the axes of one image of a group; none where they cannot be read."""
    try:
        image = spec.read(attributes, Report("image"), kind="image", number=number)[2]
    except NgffError:
        return []
    if not isinstance(image, Image):
        return []
    return [axis.extra.get("name", axis.name) for axis in image.multiscale.axes]
