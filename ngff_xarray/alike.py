"""Planes of the wells of a plate: what to read of images that are alike is found out once."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from ngff_xarray import channels, image, lazy, planes, read, store
from ngff_xarray.model import Channel
from ngff_xarray.planes import Choice, Cut, Plane
from ngff_xarray.read import FieldPlace
from ngff_xarray.spec import omero
from ngff_xarray.store import Document, Group
from ngff_xarray.wells import AT_A_TIME, PlateFields, at_a_time, each

_READERS = 16  # images that are opened as trees, or projected, at a time
_MOST_KINDS = 16  # of images that are alike

Read = tuple[xr.DataTree, Plane]
"""An image, or one that is like it but for its pixels, and the plane that was read."""
Found = Read | Exception | None
"""What came of an image: an error if it cannot be read, None if it is not there."""


def read_images(openers: Sequence[Callable[[], xr.DataTree | None]], choice: Choice) -> list[Found]:
    """Return each image with the plane that was read of it, many at a time."""

    def read_one(open_: Callable[[], xr.DataTree | None]) -> Found:
        try:
            tree = open_()
            return None if tree is None else (tree, planes.read(tree, choice))
        except Exception as error:  # whatever the store, a codec or numpy raises
            return error

    with ThreadPoolExecutor(max_workers=min(_READERS, max(1, len(openers)))) as pool:
        return list(pool.map(read_one, openers))


def read_wells(
    tree: xr.DataTree, paths: Sequence[str], choice: Choice, number: int, *, labels: bool
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
        Whether the fields are to have their label images; then all of their metadata is read.
    """
    fields = PlateFields(tree, number)
    found: dict[str, Found] = {}
    others: dict[str, Callable[[], xr.DataTree | None]] = {}
    looked: dict[str, _Looked] = {}
    unopened = [path for path in paths if not fields.is_opened(path)]
    for path, place in _looked_at(fields, unopened).items():
        if isinstance(place, _Looked):
            looked[path] = place
        else:
            found[path] = place
    for path in paths:
        if path in looked and labels:
            others[path] = partial(looked[path].open, labels=True)
        elif path not in looked and path not in found:
            others[path] = partial(fields.open, path, None, labels=labels)
    if not labels:
        alike = _read_alike(looked, choice)
        found |= alike
        others |= {path: known.open for path, known in looked.items() if path not in alike}
    found |= dict(zip(others, read_images(list(others.values()), choice), strict=True))
    return [found[path] for path in paths]


@dataclass(frozen=True)
class _Looked:
    """A field that was found, and what its group says."""

    place: FieldPlace
    group: Group

    def open(self, *, labels: bool = False) -> xr.DataTree:
        """Return it as a tree."""
        return read.tree_of(store.run(self.place.nodes(self.group, labels=labels)))

    @property
    def document(self) -> Document:
        """The document of OME's, wherever the version has it."""
        said = self.group.attributes.get("ome", self.group.attributes)
        return said if isinstance(said, dict) else {}


def _looked_at(fields: PlateFields, paths: Sequence[str]) -> dict[str, _Looked | Exception | None]:
    async def look(path: str) -> _Looked | None:
        place = await fields.find(path)
        return None if place is None else _Looked(place, await place.fetch())

    found = store.run(each(paths, look, asyncio.Semaphore(AT_A_TIME)))
    return dict(zip(paths, found, strict=True))


def _read_alike(looked: Mapping[str, _Looked], choice: Choice) -> dict[str, Found]:
    """Return the planes of fields like which there are others; others are left out."""
    kinds: dict[str, dict[str, _Looked]] = {}
    for path, field in looked.items():
        kinds.setdefault(_kind(field.document), {})[path] = field
    found: dict[str, Found] = {}
    with ThreadPoolExecutor(_READERS) as pool:
        for fields in list(kinds.values())[:_MOST_KINDS]:
            try:
                kind = _Kind.of(next(iter(fields.values())), choice, pool)
            except Exception:  # opening each of them as a tree says why
                continue
            found |= kind.read(fields)
    return found


def _kind(document: Document) -> str:
    """Return what is the same for images that are read and placed alike.

    Their names may differ, and the windows of their channels.
    """
    kept = {key: document.get(key) for key in ("version", "multiscales", "omero", "image-label")}
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
class _Kind:
    """What is read of images that are alike."""

    choice: Choice
    first: _Looked
    tree: xr.DataTree
    path: str
    level: xr.Variable
    cut: Cut
    parsed: store.ParsedArrays
    pool: ThreadPoolExecutor

    @classmethod
    def of(cls, first: _Looked, choice: Choice, pool: ThreadPoolExecutor) -> _Kind:
        """Return it for all images like one."""
        tree = first.open()
        cut = planes.cut_of(tree, choice)
        level = image.levels(tree)[cut.level].variable
        path = image.level_paths(tree)[cut.level]
        return cls(choice, first, tree, path, level, cut, {}, pool)

    def read(self, fields: Mapping[str, _Looked]) -> dict[str, Found]:
        """Return the planes of some images; those with arrays of another shape are left out."""
        part = self.cut.part(self.level)
        chunk = math.prod(np.max(n) for n in self.level.encoding["chunks"])
        gate = asyncio.Semaphore(at_a_time(max(part.nbytes, chunk * part.dtype.itemsize)))
        found = store.run(each(list(fields.values()), self._read, gate))
        both = zip(fields, found, strict=True)
        return {path: result for path, result in both if result is not None}

    async def _read(self, field: _Looked) -> Read | None:
        array = await field.place.array(self.path, self.parsed)
        if (array.shape, array.dtype) != (self.level.shape, self.level.dtype):
            return None
        variable = xr.Variable(self.level.dims, lazy.lazy(array), encoding=self.level.encoding)
        part = self.cut.part(variable)
        if self.cut.over:  # slab by slab
            loop = asyncio.get_running_loop()
            plane = await loop.run_in_executor(self.pool, self.cut.plane, part)
        else:
            plane = self.cut.plane(await part.load_async())
        return self.tree, replace(plane, channels=self._looks(field))

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
