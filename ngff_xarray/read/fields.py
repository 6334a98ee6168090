"""One field of a plate, or one level of it, without opening what is beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import zarr

from ngff_xarray import spec
from ngff_xarray.errors import NotOmeError, SelectionError, StoreNotFoundError
from ngff_xarray.model import Fields, Image, Level
from ngff_xarray.read.arrays import fetch_arrays, open_arrays
from ngff_xarray.read.nodes import open_nodes
from ngff_xarray.read.opening import Nodes, Opened, Opening, inherited
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.store import (
    Group,
    ParsedArrays,
    Source,
    fetch_array,
    fetch_child_group,
    open_array,
)


@dataclass(frozen=True, slots=True)
class FieldPlace:
    """Where a field of a well is: the well's place, what its group says, the path below it.

    ``version`` is that of the plate.
    """

    well: Source
    group: Group
    path: str
    version: str | None

    async def fetch(self, below: str = "") -> Group:
        """Return what the group of the field says, or one below it.

        Raises
        ------
        StoreNotFoundError
            If it is not there.
        """
        path = f"{self.path}/{below}".rstrip("/")
        found = await fetch_child_group(self.well, self.group, path)
        if found is None:
            kind = "there is no group" if below else "a field is listed, but there is no group"
            raise StoreNotFoundError(f"{self.well.url}: {kind} at {path!r}")
        return found

    async def array(self, path: str, parsed: ParsedArrays) -> zarr.Array[Any]:
        """Return an array of the field; nothing is read but its metadata.

        Raises
        ------
        StoreNotFoundError
            If it is not there.
        """
        below = f"{self.path}/{path}"
        document = await fetch_array(self.well, self.group, below)
        if document is None:
            raise StoreNotFoundError(f"{self.well.url}: there is no array at {below!r}")
        return open_array(self.well, below, document, parsed)

    async def nodes(self, group: Group, *, labels: bool) -> Nodes:
        """Return the Datasets of the field, of which the group says what `fetch` returned."""
        opening = Opening(labels=labels, indexed=True, version=self.version)
        return await open_nodes(self.well.child(self.path), group, opening)


@dataclass(frozen=True, slots=True)
class WellPlace:
    """Where a well is, what its group says, and the paths of its fields below it.

    ``version`` is that of the plate.
    """

    source: Source
    group: Group
    paths: Sequence[str]
    version: str | None

    def field(self, number: int) -> FieldPlace:
        """Return where one of its fields is.

        Raises
        ------
        SelectionError
            If there is none of that number.
        """
        if not -len(self.paths) <= number < len(self.paths):
            has = f"{self.source.url} has {len(self.paths)} fields"
            raise SelectionError(f"{has}; there is no field {number}")
        return FieldPlace(self.source, self.group, self.paths[number], self.version)


async def find_well(
    source: Source, group: Group, path: str, *, version: str | None
) -> WellPlace | None:
    """Return where a well below a plate is, or None if there is no such well.

    The metadata of the well are read and no more.
    """
    well = await fetch_child_group(source, group, path)
    if well is None:
        return None
    place = source.child(path)
    stated = inherited(well, version)
    fields = spec.read(well.attributes, Report(place.url), kind="well", version=stated)[2]
    return WellPlace(place, well, fields.paths if isinstance(fields, Fields) else (), version)


async def find_field(
    source: Source, group: Group, path: str, number: int, *, version: str | None
) -> FieldPlace | None:
    """Return where a field of a well below a plate is, or None if there is no such well.

    The metadata of the well are read and no more.

    Raises
    ------
    SelectionError
        If the well has no such field.
    """
    well = await find_well(source, group, path, version=version)
    return None if well is None else well.field(number)


@dataclass(frozen=True, slots=True)
class OneLevel:
    """An image of which one level was opened and nothing else.

    ``version`` is the one that it follows.
    """

    image: Image
    level: Level
    array: zarr.Array[Any]
    version: str


def listed_levels(
    source: Source, group: Group, *, version: str | None
) -> tuple[str, Image, Sequence[Level]]:
    """Return the version of an image, what its group says, and the levels that it lists.

    Raises
    ------
    NotOmeError
        If the group is no image.
    MetadataError
        If it cannot be read.
    """
    report = Report(source.url)
    stated, kind, content, _ = spec.read(
        group.attributes, report, version=inherited(group, version)
    )
    if not isinstance(content, Image):
        raise NotOmeError(f"{source.url}: expected an image, found a {kind}")
    return stated, content, content.multiscale.levels


async def open_level(source: Source, group: Group, number: int, *, version: str | None) -> OneLevel:
    """Return one level of an image; of versions that do not say where it lies, also by the first.

    Raises
    ------
    SelectionError
        If the image lists no such level.
    NgffError
        If it cannot be read.
    """
    stated, image, levels = listed_levels(source, group, version=version)
    if not -len(levels) <= number < len(levels):
        raise SelectionError(f"{source.url} lists {len(levels)} levels; there is no level {number}")
    wanted = levels[number]
    first = () if wanted.transformation is not None or wanted is levels[0] else levels[:1]
    image = replace(image, multiscale=replace(image.multiscale, levels=(*first, wanted)))
    report = Report(source.url, stated)
    opened = Opened(source, group, stated, image, {}, Opening(), report, open_nodes)
    image, arrays = open_arrays(opened, image, await fetch_arrays(opened, image))
    level, array = arrays[-1]
    if level.path != wanted.path:
        raise StoreNotFoundError(f"{source.url}: there is no array at {shown(wanted.path)}")
    return OneLevel(image, level, array, stated)
