"""Planes of the wells of a plate: what to read of images that are alike is found out once."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
import xarray as xr

from ngff_xarray import channels, image, lazy, overlay, planes, read, store
from ngff_xarray.errors import SelectionError, StoreNotFoundError
from ngff_xarray.model import Channel
from ngff_xarray.overlay import LabelCut, LabelPlane, Names
from ngff_xarray.planes import Choice, Cut, Plane
from ngff_xarray.progress import progress
from ngff_xarray.read import FieldPlace
from ngff_xarray.spec import image_label, omero
from ngff_xarray.store import Document, Group
from ngff_xarray.wells import AT_A_TIME, PlateFields, at_a_time, each

_READERS = 16  # images that are opened as trees, or projected, at a time
_MOST_KINDS = 16  # of images that are alike
_MOST_FIRST = 3  # of them that what to read is found out from, if they cannot be opened


class Read(NamedTuple):
    """An image, or one like it but for its pixels, and the plane that was read of it.

    Its labels, too, if they were read.
    """

    tree: xr.DataTree
    plane: Plane
    labels: Sequence[LabelPlane] | None = None


Found = Read | Exception | None
"""What came of an image: an error if it cannot be read, None if it is not there."""


def read_images(openers: Sequence[Callable[[], xr.DataTree | None]], choice: Choice) -> list[Found]:
    """Return each image with the plane that was read of it, many at a time."""

    def read_one(open_: Callable[[], xr.DataTree | None]) -> Found:
        try:
            tree = open_()
            return None if tree is None else Read(tree, planes.read(tree, choice))
        except Exception as error:  # whatever the store, a codec or numpy raises
            return error

    with ThreadPoolExecutor(max_workers=min(_READERS, max(1, len(openers)))) as pool:
        return list(pool.map(read_one, openers))


def read_wells(
    tree: xr.DataTree, paths: Sequence[str], choice: Choice, number: int, *, labels: Names = None
) -> list[Found]:
    """Return one field of each well with the plane that was read of it.

    Of wells that were not opened yet, only what the plane needs is read: the groups of the well
    and the field, one array, and its chunks.

    Parameters
    ----------
    tree
        The plate.
    paths
        The wells.
    choice
        What to read.
    number
        Which field of each.
    labels
        The label images of the fields to read, too: a name, a list of names, or True for all.
    """
    labels = None if labels is False else labels
    fields = PlateFields(tree, number)
    unopened = [path for path in paths if not fields.is_opened(path)]
    looked = _looked_at(fields, unopened)
    found: dict[str, Found] = {
        path: place for path, place in looked.items() if not isinstance(place, _Looked)
    }
    known = {path: place for path, place in looked.items() if isinstance(place, _Looked)}
    found |= _read_alike(known, choice, labels)
    openers = {
        path: partial(known[path].open, labels=labels is not None)
        if path in known
        else partial(fields.open, path, None, labels=False)
        for path in paths
        if path not in found
    }
    found |= dict(zip(openers, read_images(list(openers.values()), choice), strict=True))
    return [found[path] for path in paths]


@dataclass(frozen=True)
class _Looked:
    """A field that was found, and what its group says."""

    place: FieldPlace
    group: Group

    def open(self, *, labels: bool) -> xr.DataTree:
        """Return it as a tree."""
        return read.tree_of(store.run(self.place.nodes(self.group, labels=labels)))

    @property
    def document(self) -> Document:
        """What OME says of it."""
        return _document(self.group)


def _document(group: Group) -> Document:
    """Return the document of OME's, wherever the version has it."""
    said = group.attributes.get("ome", group.attributes)
    return said if isinstance(said, dict) else {}


def _looked_at(fields: PlateFields, paths: Sequence[str]) -> dict[str, _Looked | Exception | None]:
    async def look(path: str) -> _Looked | None:
        place = await fields.find(path)
        return None if place is None else _Looked(place, await place.fetch())

    with progress("looking at images", "groups") as bar:
        found = store.run(each(paths, look, asyncio.Semaphore(AT_A_TIME), bar), bar)
    return dict(zip(paths, found, strict=True))


def _read_alike(looked: Mapping[str, _Looked], choice: Choice, labels: Names) -> dict[str, Found]:
    """Return the planes of fields like which there are others; others are left out."""
    kinds: dict[str, dict[str, _Looked]] = {}
    for path, field in looked.items():
        kinds.setdefault(_kind(field.document), {})[path] = field
    found: dict[str, Found] = {}
    with ThreadPoolExecutor(_READERS) as pool:
        for fields in list(kinds.values())[:_MOST_KINDS]:
            for first in list(fields.values())[:_MOST_FIRST]:
                try:
                    kind = _Kind.of(first, choice, labels, pool)
                except SelectionError as error:  # of what is asked for: it is the same of all
                    found |= dict.fromkeys(fields, error)
                except Exception:  # the next one may be fine
                    continue
                else:
                    found |= kind.read(fields)
                break
    return found


def _kind(document: Document) -> str:
    """Return what is the same for images that are read and placed alike.

    Their names may differ, and the windows of channels and colours of labels.
    """
    kept = {key: document.get(key) for key in ("version", "multiscales", "omero")}
    kept["labels"] = "image-label" in document
    entries = kept["multiscales"]
    if isinstance(entries, list):
        kept["multiscales"] = [_without(entry, "name", "metadata") for entry in entries]
    stored = kept["omero"]
    if isinstance(stored, dict) and isinstance(stored.get("channels"), list):
        kept["omero"] = _without(stored, "name", "id") | {
            "channels": [_without(entry, "window") for entry in stored["channels"]]
        }
    return json.dumps(kept)


def _without(entry: Any, *keys: str) -> Any:
    return {k: v for k, v in entry.items() if k not in keys} if isinstance(entry, dict) else entry


@dataclass(frozen=True)
class _Level:
    """The level that is read of an image and of all like it: where, and as what."""

    path: str
    variable: xr.Variable

    async def of(self, field: _Looked, parsed: store.ParsedArrays) -> xr.Variable | None:
        """Return that of another field, lazily, or None if there is none, or of another shape."""
        try:
            array = await field.place.array(self.path, parsed)
        except StoreNotFoundError:  # it may have other levels
            return None
        like = self.variable
        if (array.shape, array.dtype) != (like.shape, like.dtype):
            return None
        return xr.Variable(like.dims, lazy.lazy(array), encoding=like.encoding)


@dataclass(frozen=True)
class _LabelKind:
    """What is read of label images that are alike."""

    path: str
    kind: str
    level: _Level
    cut: LabelCut

    @classmethod
    def of(cls, field: _Looked, tree: xr.DataTree, name: str, cut: Cut, projected: bool) -> Self:
        """Return it for all label images like one of a field that was opened."""
        labels, like = image.label_images(tree)[name], image.levels(tree)[0]
        own = overlay.cut_of(labels, cut.y, cut.x, cut.position, like, projected=projected)
        below = f"labels/{name}"
        level = _Level(
            f"{below}/{image.level_paths(labels)[own.level]}",
            image.levels(labels)[own.level].variable,
        )
        kind = _kind(_document(store.run(field.place.fetch(below))))
        return cls(below, kind, level, own)

    async def read(self, field: _Looked, parsed: store.ParsedArrays) -> LabelPlane | None:
        """Return the labels of another field, or None if they are not like these."""
        try:
            group, variable = await asyncio.gather(
                field.place.fetch(self.path), self.level.of(field, parsed)
            )
        except StoreNotFoundError:  # opening the field as a tree says what there is
            return None
        document = _document(group)
        if variable is None or _kind(document) != self.kind:
            return None
        pixels = self.cut.plane(await self.cut.part(variable).load_async())
        return LabelPlane(pixels, image_label.colors(document.get("image-label")))


@dataclass(frozen=True)
class _Kind:
    """What is read of images that are alike.

    ``listed`` is what their groups of labels say, where all labels are wanted.
    """

    choice: Choice
    first: _Looked
    tree: xr.DataTree
    level: _Level
    cut: Cut
    labels: Sequence[_LabelKind] | None
    listed: Document | None
    parsed: store.ParsedArrays
    pool: ThreadPoolExecutor

    @classmethod
    def of(cls, first: _Looked, choice: Choice, labels: Names, pool: ThreadPoolExecutor) -> Self:
        """Return it for all images like one."""
        tree = first.open(labels=labels is not None)
        cut = planes.cut_of(tree, choice)
        level = _Level(image.level_paths(tree)[cut.level], image.levels(tree)[cut.level].variable)
        projected = choice.projection is not None
        try:
            names = overlay.label_names(tree, labels)
        except SelectionError as error:  # others may have them
            raise StoreNotFoundError(str(error)) from error
        kinds = [_LabelKind.of(first, tree, name, cut, projected) for name in names]
        over = None if labels is None else kinds
        listed = _document(store.run(first.place.fetch("labels"))) if labels is True else None
        return cls(choice, first, tree, level, cut, over, listed, {}, pool)

    def read(self, fields: Mapping[str, _Looked]) -> dict[str, Found]:
        """Return the planes of some images; those that are not quite alike are left out."""
        part = self.cut.part(self.level.variable)
        chunk = math.prod(np.max(n) for n in self.level.variable.encoding["chunks"])
        gate = asyncio.Semaphore(at_a_time(max(part.nbytes, chunk * part.dtype.itemsize)))
        with progress("reading images", "images") as bar:
            found = store.run(each(list(fields.values()), self._read, gate, bar), bar)
        both = zip(fields, found, strict=True)
        return {path: result for path, result in both if result is not None}

    async def _read(self, field: _Looked) -> Read | None:
        plane, labels = await asyncio.gather(self._plane(field), self._labels(field))
        if plane is None or (labels is None and self.labels is not None):
            return None
        return Read(self.tree, replace(plane, channels=self._looks(field)), labels)

    async def _plane(self, field: _Looked) -> Plane | None:
        variable = await self.level.of(field, self.parsed)
        if variable is None:
            return None
        part = self.cut.part(variable)
        if self.cut.over:  # slab by slab
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self.pool, self.cut.plane, part)
        return self.cut.plane(await part.load_async())

    async def _labels(self, field: _Looked) -> list[LabelPlane] | None:
        """Return the labels of an image; None if they are not wanted, or not alike."""
        if self.labels is None:
            return None
        if self.listed is not None and await self._listed(field) != self.listed:
            return None
        found = await asyncio.gather(*(each.read(field, self.parsed) for each in self.labels))
        return None if None in found else [plane for plane in found if plane is not None]

    async def _listed(self, field: _Looked) -> Document | None:
        try:
            return _document(await field.place.fetch("labels"))
        except StoreNotFoundError:
            return None

    def _looks(self, field: _Looked) -> tuple[Channel, ...]:
        """Return how the channels of an image look: with windows of their own."""
        stored = field.document.get("omero")
        if stored == self.first.document.get("omero"):
            return self.cut.looks
        own = omero.by_name(stored)
        known = [
            replace(channel, window=own[channel.name].window) if channel.name in own else channel
            for channel in self.cut.known
        ]
        return tuple(channels.chosen(known, self.choice.channels)[1])
