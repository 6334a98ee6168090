"""A store -> a DataTree: images and their labels, plates, wells, collections and scenes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import xarray as xr
import zarr

from ngff_xarray import geometry, spec, transforms, unfinished
from ngff_xarray.describe import ome_attrs
from ngff_xarray.errors import (
    MetadataError,
    NgffError,
    NotOmeError,
    SelectionError,
    StoreNotFoundError,
    TransformationError,
)
from ngff_xarray.lazy import (
    PARAMETERS,
    Coordinates,
    channel_count,
    level_dataset,
    parameter_dataset,
    placement,
)
from ngff_xarray.model import Collection, Fields, Image, Level, Plate, Scene
from ngff_xarray.progress import Bar, progress
from ngff_xarray.spec import rules, transformations
from ngff_xarray.spec.collections import read_series
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.spec.systems import parse_system
from ngff_xarray.spec.transformations import parameter_paths
from ngff_xarray.spec.values import is_relative
from ngff_xarray.storage import Access
from ngff_xarray.store import (
    Document,
    Group,
    ParsedArrays,
    Source,
    fetch_array,
    fetch_child_group,
    open_array,
    open_group,
    run,
)

MAX_COORDINATES = 2**24  # of all levels of an image: every axis has one for each pixel
MAX_CHANNELS = 2**17
MAX_LEVELS = 500  # of an image: each is a node
MAX_IMAGES = 64  # described in one group
_MOST_AXES = 32  # of a matrix in an array
MAX_CHILDREN = 2**12  # wells of a plate, images of a collection: each is a node

Nodes = dict[str, xr.Dataset]  # by path below the group, "" for the group itself
Wells = Sequence[str] | Literal["all"] | None


@dataclass(frozen=True, slots=True)
class Opening:
    """What of a store is wanted.

    Parameters
    ----------
    labels
        Whether to open label images.
    wells
        The wells of a plate to open, by path, or ``"all"``; None opens none.
    multiscale
        Which image of a group with several, by number or name.
    is_label
        Whether an image is one of labels because of where it stands.
    indexed
        Whether to make indexes; xarray makes them itself where it opens the store.
    version
        The version of the group above, which one that states none follows.
    coordinates
        Shared by all levels that are opened.
    bar
        Counts the groups next below, as far as there are several.
    """

    labels: bool = True
    wells: Wells = None
    multiscale: int | str = 0
    is_label: bool = False
    indexed: bool = False
    version: str | None = None
    coordinates: Coordinates = field(default_factory=Coordinates)
    bar: Bar = field(default_factory=Bar)


def open_tree(
    source: Any,
    *,
    group: str | None = None,
    access: Access | None = None,
    drop_variables: str | Iterable[str] | None = None,
    labels: bool = True,
    wells: Wells = None,
    multiscale: int | str = 0,
) -> xr.DataTree:
    """Return an OME-Zarr image, plate, well, collection or scene as a tree; no pixel is read.

    Parameters
    ----------
    source
        A path, a URL, a zarr group or store, or references.
    group
        The group to open, where it is not the root: a series (``"0"``), a well (``"B/3"``).
    access
        How to read the store.
    drop_variables
        Names of variables to leave out of every node.
    labels
        Whether to open the label images too.
    wells
        The wells of a plate to open to their pixels, or ``"all"``. By default a plate opens to
        its wells and no further, which takes one request.
    multiscale
        Which image to open where a group holds several: its number or its name.

    Returns
    -------
    xarray.DataTree
        A node a group, at the paths that the store uses. Each level of an image is a node with
        the lazily indexed variable ``image`` (``labels`` in a label image).

    Raises
    ------
    StoreNotFoundError
        If nothing is there.
    NgffError
        If it is no OME-Zarr, or one that cannot be read.
    """
    access = access or Access()
    place, found = open_group(source, group=group, access=access)
    with progress("opening", "groups", access.progress) as bar:
        opening = Opening(labels=labels, wells=wells, multiscale=multiscale, bar=bar)
        return tree_of(run(open_nodes(place, found, opening), bar), drop_variables)


def tree_of(nodes: Nodes, drop_variables: str | Iterable[str] | None = None) -> xr.DataTree:
    """Return the tree of Datasets by path."""
    dropped = {drop_variables} if isinstance(drop_variables, str) else set(drop_variables or ())
    if dropped:
        nodes = {path: node.drop_vars(dropped, errors="ignore") for path, node in nodes.items()}
    return xr.DataTree.from_dict({path or "/": node for path, node in nodes.items()})


def open_below(source: Source, group: Group, path: str) -> xr.DataTree | None:
    """Return the tree of a group below another one, or None if there is none."""

    async def nodes() -> Nodes | None:
        below = await fetch_child_group(source, group, path)
        if below is None:
            return None
        return await open_nodes(source.child(path), below, Opening(indexed=True, bar=bar))

    with progress("opening", "groups") as bar:
        found = run(nodes(), bar)
    return None if found is None else tree_of(found)


def open_field(
    source: Source, group: Group, path: str, number: int, *, labels: bool, version: str | None
) -> xr.DataTree | None:
    """Return one field of a well below a plate, or None if there is no such well.

    Nothing else of the well is read. ``version`` is that of the plate.
    """

    async def nodes() -> Nodes | None:
        at = await find_field(source, group, path, number, version=version)
        return None if at is None else await at.nodes(await at.fetch(), labels=labels)

    found = run(nodes())
    return None if found is None else tree_of(found)


def open_image(
    source: Source, group: Group, *, version: str | None, labels: bool = False
) -> xr.DataTree:
    """Return the tree of an image of whose group it is known what it says."""
    opening = Opening(labels=labels, indexed=True, version=version)
    return tree_of(run(open_nodes(source, group, opening)))


def open_place(place: FieldPlace, *, labels: bool) -> xr.DataTree:
    """Return the tree of a field that was found."""

    async def nodes() -> Nodes:
        return await place.nodes(await place.fetch(), labels=labels)

    return tree_of(run(nodes()))


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
    stated = _inherited(well, version)
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
        group.attributes, report, version=_inherited(group, version)
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
    opened = _Opened(source, group, stated, image, {}, Opening(), Report(source.url, stated))
    image, arrays = _open_arrays(opened, image, await _fetch_arrays(opened, image))
    level, array = arrays[-1]
    if level.path != wanted.path:
        raise StoreNotFoundError(f"{source.url}: there is no array at {shown(wanted.path)}")
    return OneLevel(image, level, array, stated)


async def open_nodes(
    source: Source,
    group: Group,
    opening: Opening,
    *,
    kind: str | None = None,
    report: Report | None = None,
) -> Nodes:
    """Return the Dataset of every node of a group, by its path below it.

    Parameters
    ----------
    source, group
        Where it is, and what its metadata say.
    opening
        What of it is wanted.
    kind
        What the group is, where that is known.
    report
        Takes what is wrong or odd in the group itself.

    Raises
    ------
    NgffError
        If the group cannot be read.
    """
    unfinished.check_read(source.url, group.attributes)
    report = report or Report(source.url)
    report.issues += source.oddities
    number = _number(group, opening.multiscale, source)
    version, kind, content, others = spec.read(
        group.attributes,
        report,
        kind=kind,
        version=_inherited(group, opening.version),
        number=number,
    )
    opened = _Opened(source, group, version, content, others, opening, report)
    expected = spec.VERSIONS[version].ZARR_FORMAT
    if group.zarr_format != expected:
        found = f"{version} is for Zarr v{expected}, found in Zarr v{group.zarr_format}"
        report.error("version", rules.ZARR_FORMAT, found)
    return await _OPENERS[kind](opened)


def _inherited(group: Group, above: str | None) -> str | None:
    """Return the version of the group above for one below ``ome`` that states none."""
    said = group.attributes.get("ome")
    unstated = isinstance(said, dict) and "version" not in said
    later = spec.VERSIONS[above].ZARR_FORMAT == 3 if above else False
    return above if unstated and later else None


def _number(group: Group, wanted: int | str, source: Source) -> int:
    """Return which of the images of a group is wanted."""
    if isinstance(wanted, int):
        return wanted
    document = group.attributes.get("ome", group.attributes)
    entries = document.get("multiscales") if isinstance(document, dict) else None
    entries = entries if isinstance(entries, list) else []
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
    if wanted not in names:
        raise SelectionError(f"{source.url}: there is no image {wanted!r}; found {shown(names)}")
    return names.index(wanted)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A group whose own metadata were read."""

    source: Source
    group: Group
    version: str
    content: Any
    others: dict[str, Any]
    opening: Opening
    report: Report

    def node(self, ome: dict[str, Any], **encoding: Any) -> xr.Dataset:
        """Return the Dataset of the group itself; last, for it takes the issues along."""
        dataset = xr.Dataset(attrs={**self.others, "ome": ome})
        dataset.encoding = {
            "source": self.source.url,
            "ome_version": self.version,
            "zarr_format": self.group.zarr_format,
            **encoding,
            "issues": (*self.report.issues, *self.report.faults),
            "place": (self.source, self.group),
        }
        return dataset

    async def children(
        self,
        paths: Sequence[str],
        rule: rules.Rule,
        where: str = "",
        groups: Mapping[str, Group] | None = None,
        **changed: Any,
    ) -> dict[str, Nodes]:
        """Return the nodes of groups below; those that cannot be opened become issues."""
        opening = replace(
            self.opening, **{"wells": None, "multiscale": 0, "version": self.version, **changed}
        )
        if len(paths) > MAX_CHILDREN:
            found = f"lists {len(paths)}, more than {MAX_CHILDREN}: the others are left out"
            self.report.error(where, rule, found)
            paths = paths[:MAX_CHILDREN]
        bar = opening.bar
        if len(paths) > 1:
            bar.more(len(paths))
            opening = replace(opening, bar=Bar())  # those below these are not counted

        async def child(path: str) -> Nodes:
            try:
                return await self._child(path, (groups or {}).get(path), opening)
            finally:
                bar.did(len(paths) > 1)

        found_nodes = await asyncio.gather(*map(child, paths), return_exceptions=True)
        opened: dict[str, Nodes] = {}
        for path, nodes in zip(paths, found_nodes, strict=True):
            if isinstance(nodes, dict):
                opened[path] = nodes
                self.check_child(path, nodes[""])
            else:
                self.note(path, nodes, rule, where)
        return opened

    def note(self, path: str, error: BaseException, rule: rules.Rule, where: str) -> None:
        """Note a group below that cannot be opened, with all that is wrong in it."""
        if isinstance(error, MetadataError):
            self.report.issues += [
                replace(issue, group="/".join(filter(None, (path, issue.group))))
                for issue in error.issues
            ]
        elif isinstance(error, NgffError):
            self.report.error(where, rule, f"{shown(path)} cannot be opened: {error}")
        else:
            raise error

    async def _child(self, path: str, group: Group | None, opening: Opening) -> Nodes:
        group = group or await fetch_child_group(self.source, self.group, path)
        if group is None:
            raise StoreNotFoundError("there is no group")
        return await open_nodes(self.source.child(path), group, opening)

    def check_child(self, path: str, node: xr.Dataset) -> None:
        version = node.encoding["ome_version"]
        if version != self.version and self.group.zarr_format == 3:
            found = f"is version {version}, below version {self.version}"
            self.report.error("version", rules.VERSION, f"{shown(path)} {found}")


def _below(prefix: str, nodes: Nodes) -> Nodes:
    return {f"{prefix}/{path}" if path else prefix: node for path, node in nodes.items()}


def _merged(root: xr.Dataset, children: Mapping[str, Nodes]) -> Nodes:
    nodes = {"": root}
    for path, below in children.items():
        nodes |= _below(path, below)
    return nodes


def _with_extra(said: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    return {**said, "extra": {"ome": dict(extra)}} if extra else said


async def _open_plate(opened: _Opened) -> Nodes:
    plate: Plate = opened.content
    wells = {well.path: well for well in plate.wells[:MAX_CHILDREN]}
    if len(plate.wells) > len(wells):
        found = f"lists {len(plate.wells)} wells; {MAX_CHILDREN} are nodes"
        opened.report.error("plate.wells", rules.PLATE_WELLS, found)
    wanted = _wanted_wells(opened.opening.wells, plate, opened.source)
    children = await opened.children(wanted, rules.WELL_MISSING, "plate.wells")
    acquisitions = plate.document.get("acquisitions")
    if isinstance(acquisitions, list) and len(acquisitions) > 1:
        for path, nodes in children.items():
            _check_acquisitions(opened, path, nodes[""], acquisitions)
    for path, well in wells.items():
        said = {"row": well.row, "column": well.column}
        if path in children:
            node = children[path][""]
            node.attrs["ome"] = {**node.attrs["ome"], **said}
        else:
            node = xr.Dataset(attrs={"ome": said})
            node.encoding = {
                "source": opened.source.child(path).url,
                "ome_version": opened.version,
                "zarr_format": opened.group.zarr_format,
            }
            children[path] = {"": node}
    ordered = {path: children[path] for path in wells}
    return _merged(opened.node(_with_extra({"plate": plate.document}, plate.extra)), ordered)


def _wanted_wells(wells: Wells, plate: Plate, source: Source) -> list[str]:
    known = [well.path for well in plate.wells]
    if wells is None:
        return []
    if isinstance(wells, str) and wells == "all":
        return known
    wanted = [wells] if isinstance(wells, str) else list(wells)
    unknown = [path for path in wanted if path not in known]
    if unknown:
        raise SelectionError(f"{source.url}: there is no well {unknown[0]!r}; found {shown(known)}")
    return wanted


def _check_acquisitions(
    opened: _Opened, path: str, well: xr.Dataset, acquisitions: list[Any]
) -> None:
    """Note fields that name no acquisition of a plate with several."""
    known = [entry.get("id") for entry in acquisitions if isinstance(entry, dict)]
    for i, entry in enumerate(well.attrs["ome"]["well"]["images"]):
        found = entry.get("acquisition") if isinstance(entry, dict) else None
        if found not in known:
            where = f"well.images[{i}].acquisition"
            message = f"expected one of {shown(known)}, found {shown(found)}"
            opened.report.error(where, rules.FIELD_ACQUISITION, message)
            opened.report.issues.append(replace(opened.report.issues.pop(), group=path))


async def _open_well(opened: _Opened) -> Nodes:
    well: Fields = opened.content
    children = await opened.children(well.paths, rules.FIELD_MISSING, "well.images")
    return _merged(opened.node(_with_extra({"well": dict(well.document)}, well.extra)), children)


async def _open_collection(opened: _Opened) -> Nodes:
    listing = await fetch_child_group(opened.source, opened.group, "OME")
    below: dict[str, Nodes] = {}
    paths: tuple[str, ...] | None = None
    if listing is not None and spec.detect_kind(listing.attributes) == "series":
        below = await opened.children(["OME"], rules.SERIES, "OME", groups={"OME": listing})
        quiet = Report(opened.source.url)
        paths = read_series(below["OME"][""].attrs["ome"], quiet).paths if below else None
    elif listing is not None:
        below = {"OME": {"": xr.Dataset(attrs=dict(listing.attributes))}}
    if paths is None:
        children = await _numbered(opened)
    else:
        children = await opened.children(paths, rules.SERIES_MISSING, "series")
    document = {k: v for k, v in opened.content.document.items() if k != "version"}
    return _merged(opened.node(document), below | children)


async def _numbered(opened: _Opened) -> dict[str, Nodes]:
    """Return the images of groups that are numbered from 0 on, up to the first gap."""
    found: dict[str, Nodes] = {}
    first, count = 0, 8
    while first < MAX_CHILDREN:
        paths = [str(i) for i in range(first, first + count)]
        groups = await asyncio.gather(
            *(fetch_child_group(opened.source, opened.group, path) for path in paths)
        )
        there = {}
        for path, group in zip(paths, groups, strict=True):
            if group is None:
                break
            there[path] = group
        found |= await opened.children(list(there), rules.SERIES_MISSING, "series", groups=there)
        if len(there) < len(paths):
            break
        first, count = first + count, count * 2
    return found


async def _open_listing(opened: _Opened) -> Nodes:
    """Return the node of a group that lists paths without being asked to open them."""
    document = {k: v for k, v in opened.content.document.items() if k != "version"}
    return {"": opened.node(document)}


async def _open_labels_group(opened: _Opened) -> Nodes:
    listed: Collection = opened.content
    paths = listed.paths or ()
    opened = replace(opened, others=unfinished.without(opened.others))
    children = await opened.children(
        paths, rules.LABEL_MISSING, "labels", labels=False, is_label=True
    )
    return _merged((await _open_listing(opened))[""], children)


async def _open_scene(opened: _Opened) -> Nodes:
    scene: Scene = opened.content
    images, parameters = await asyncio.gather(
        opened.children(scene.paths, rules.SCENE_MISSING, "scene"),
        _open_parameters(
            opened,
            scene.document["coordinateTransformations"],
            "scene.coordinateTransformations",
        ),
    )
    links = scene.document["coordinateTransformations"]
    there = [link for link in links if _paths_of(link) <= set(images)]
    _check_references(there, images, "scene.coordinateTransformations", opened.report)
    sizes = _sizes(scene.document)
    for path, nodes in images.items():
        sizes |= _sizes(nodes[""].attrs["ome"], path)
    _check_parameters(links, "scene.coordinateTransformations", parameters, sizes, opened.report)
    said = _with_extra({"scene": dict(scene.document)}, scene.extra)
    return _merged(opened.node(said), parameters | images)


def _paths_of(link: Mapping[str, Any]) -> set[str]:
    """Return the paths of the images at the ends of a transformation."""
    ends = [link.get(key) for key in ("input", "output")]
    paths = [end.get("path") for end in ends if isinstance(end, dict)]
    return {path.strip("/") for path in paths if isinstance(path, str)}


def _check_references(
    links: Sequence[Mapping[str, Any]], nodes: Mapping[str, Nodes], where: str, report: Report
) -> None:
    """Note ends of transformations at systems that the images below do not have."""
    for i, link in enumerate(links):
        for key in ("input", "output"):
            end = link.get(key)
            path = end.get("path") if isinstance(end, dict) else None
            if not isinstance(path, str) or not isinstance(end, dict):
                continue
            below = nodes.get(path.strip("/"))
            if below is None:
                found = f"there is no image at {shown(path)}"
                report.error(f"{where}[{i}].{key}", rules.SYSTEM_UNKNOWN, found)
                continue
            names = [name for _, name in _sizes(below[""].attrs["ome"])]
            if names and end.get("name") not in names:
                found = f"{shown(path)} has no system {shown(end.get('name'))}, only {shown(names)}"
                report.error(f"{where}[{i}].{key}", rules.SYSTEM_UNKNOWN, found)


async def _open_image(opened: _Opened) -> Nodes:
    image: Image = opened.content
    count = len(image.multiscale.levels)
    if count > MAX_LEVELS:
        found = f"lists {count} levels, more than {MAX_LEVELS}"
        opened.report.stop("multiscales[0].datasets", rules.DATASETS, found)
    labels, documents, parameters, others = await asyncio.gather(
        _open_labels(opened) if opened.opening.labels else _nothing(),
        _fetch_arrays(opened, image),
        _open_parameters(
            opened,
            list(image.multiscale.transformations),
            "multiscales[0].coordinateTransformations",
        ),
        _open_others(opened, image),
    )
    if _is_flat(opened, documents):
        opened = replace(opened, version="0.1")
        opened.report.version = "0.1"
    image, arrays = _open_arrays(opened, image, documents)
    is_label = opened.opening.is_label or image.image_label is not None
    _check_arrays(image, arrays, is_label, opened.report)
    _check_names(image, documents, opened.report)
    _check_labels(opened.content, labels, opened.report)
    _check_references(
        image.multiscale.transformations,
        {f"labels/{path}": {"": node} for path, node in labels.items() if "ome" in node.attrs},
        "multiscales[0].coordinateTransformations",
        opened.report,
    )
    ome = ome_attrs(image)
    _check_parameters(
        image.multiscale.transformations,
        "multiscales[0].coordinateTransformations",
        parameters,
        _sizes(ome),
        opened.report,
    )
    nodes: dict[str, Nodes] = {}
    for level, array in arrays:
        dataset = level_dataset(
            image,
            level,
            array,
            name="labels" if is_label else "image",
            ome=ome,
            coordinates=opened.opening.coordinates,
            indexed=opened.opening.indexed,
        )
        url = opened.source.child(level.path).url
        dataset.encoding = {"source": url, "ome_version": opened.version}
        nodes[level.path] = {"": dataset}
    more = {path: below for path, below in (others | parameters).items() if path not in nodes}
    paths = tuple(level.path for level in image.multiscale.levels)
    root = opened.node(ome, level_paths=paths)
    merged = _merged(root, nodes | more)
    if labels:
        merged |= _below("labels", labels)
    return merged


def _is_flat(opened: _Opened, documents: list[Document | None]) -> bool:
    """Tell whether an image is of version 0.1: no version, no axes, and flat chunk keys."""
    entries = opened.group.attributes.get("multiscales")
    stated = entries and isinstance(entries[0], dict) and "version" in entries[0]
    flat = [(doc or {}).get("dimension_separator", ".") == "." for doc in documents]
    return opened.version == "0.2" and not stated and all(flat)


async def _nothing() -> Nodes:
    return {}


async def _open_labels(opened: _Opened) -> Nodes:
    """Return the nodes of the labels group of an image; what cannot be read becomes an issue."""
    source, report = opened.source, opened.report
    try:
        group = await fetch_child_group(source, opened.group, "labels")
        if group is None or not _labels_listed(group.attributes):
            return {}
        opening = replace(opened.opening, multiscale=0, version=opened.version)
        nodes = await open_nodes(
            source.child("labels"), _namespaced(group, report), opening, kind="labels group"
        )
        opened.check_child("labels", nodes[""])
        return nodes
    except NgffError as error:
        report.error("labels", rules.LABELS_LIST, f"cannot be read: {error}")
        return {}


def _labels_listed(attributes: Mapping[str, Any]) -> bool:
    found = attributes.get("ome")
    return "labels" in attributes or (isinstance(found, dict) and "labels" in found)


def _namespaced(group: Group, report: Report) -> Group:
    """Return the labels group with its list below ``ome``, where only its version stands there."""
    said = group.attributes.get("ome")
    if not isinstance(said, dict) or "labels" in said:
        return group
    report.error("labels", rules.NAMESPACE, "the list of labels stands beside 'ome', not below it")
    attributes = {key: value for key, value in group.attributes.items() if key != "labels"}
    ome = {**said, "labels": group.attributes["labels"]}
    return replace(group, attributes={**attributes, "ome": ome})


async def _fetch_arrays(opened: _Opened, image: Image) -> list[Document | None]:
    return await asyncio.gather(
        *(fetch_array(opened.source, opened.group, level.path) for level in image.multiscale.levels)
    )


def _alone(attributes: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return the attributes of a group as if it held one of its images only."""
    said = attributes.get("ome")
    if isinstance(said, dict) and "multiscales" in said:
        return {**attributes, "ome": {**said, "multiscales": [said["multiscales"][number]]}}
    return {**attributes, "multiscales": [attributes["multiscales"][number]]}


async def _open_others(opened: _Opened, image: Image) -> dict[str, Nodes]:
    """Return the levels of the group's other images: their variable is called ``array``."""
    wanted = _number(opened.group, opened.opening.multiscale, opened.source)
    count = 1 + len(image.extra.get("multiscales", []))
    found: dict[str, Nodes] = {}
    if count > MAX_IMAGES:
        message = f"holds {count} images: besides the opened one the first {MAX_IMAGES} can be had"
        opened.report.warn("multiscales", rules.MULTISCALES, message)
    for number in range(min(count, MAX_IMAGES)):
        if number == wanted % count:
            continue
        quiet = Report(opened.source.url)
        try:
            other = spec.read(_alone(opened.group.attributes, number), quiet)[2]
            if not isinstance(other, Image):
                continue
            documents = await _fetch_arrays(opened, other)
            beside = replace(opened, report=Report(opened.source.url, opened.version))
            other, arrays = _open_arrays(beside, other, documents, number)
            opened.report.issues += beside.report.issues
        except NgffError as error:
            opened.report.error(f"multiscales[{number}]", rules.MULTISCALES, str(error))
            continue
        for level, array in arrays:
            dataset = level_dataset(
                other,
                level,
                array,
                name="array",
                ome=ome_attrs(other),
                coordinates=opened.opening.coordinates,
                indexed=opened.opening.indexed,
            )
            found.setdefault(level.path, {"": dataset})
    return found


async def _open_parameters(opened: _Opened, links: list[Any], where: str) -> dict[str, Nodes]:
    """Return the arrays and fields in which transformations keep their parameters."""
    wanted: dict[str, str] = {}
    for i, link in enumerate(links):
        for path in sorted(parameter_paths(link)):
            if is_relative(path.strip("/")):
                wanted.setdefault(path.strip("/"), f"{where}[{i}]")
    paths = list(wanted)
    found = await asyncio.gather(
        *(_open_parameter(opened, path) for path in paths), return_exceptions=True
    )
    opened_nodes: dict[str, Nodes] = {}
    for path, nodes in zip(paths, found, strict=True):
        if isinstance(nodes, dict):
            opened_nodes[path] = nodes
        else:
            opened.note(path, nodes, rules.FIELD, wanted[path])
    return opened_nodes


@dataclass(frozen=True, slots=True)
class _Shapes:
    """Stands for the arrays of parameters: only their shapes are known, and nothing is read."""

    nodes: Mapping[str, Nodes]

    def matrix(self, path: str) -> Any:
        node = self.nodes.get(path.strip("/"), {}).get("")
        array = None if node is None else node.data_vars.get(PARAMETERS)
        if array is None or array.ndim != 2 or array.dtype.kind not in "iuf":
            found = "no array" if array is None else f"{array.dtype} {array.shape}"
            raise TransformationError(f"{shown(path)}: expected a matrix of numbers, found {found}")
        if max(array.shape) > _MOST_AXES + 1:
            raise TransformationError(f"{shown(path)}: the matrix is too large: {array.shape}")
        rows, columns = array.shape
        return np.eye(rows, columns)

    def field(self, path: str, interpolation: str) -> None:
        return None


def _sizes(said: Mapping[str, Any], path: str = "") -> dict[tuple[str, str], int]:
    """Return the number of axes of each coordinate system of a group, by its path and name."""
    stored = said.get("coordinateSystems")
    systems = stored if isinstance(stored, list) else []
    parsed = [parse_system(system) for system in systems if isinstance(system, dict)]
    return {(path, system.name): len(system.axes) for system in parsed if system is not None}


def _check_parameters(
    links: Sequence[Any],
    where: str,
    nodes: Mapping[str, Nodes],
    sizes: Mapping[tuple[str, str], int],
    report: Report,
) -> None:
    """Note matrices that stand in arrays and do not fit the systems that they lead to."""
    reading = transformations.Reading(report.error, _Shapes(nodes))
    for i, link in enumerate(links):
        paths = {path.strip("/") for path in parameter_paths(link)}
        if paths and paths <= set(nodes):
            ends = [link.get(key) for key in ("input", "output")]
            counts = [
                sizes.get((str(end.get("path") or "").strip("/"), str(end.get("name"))))
                if isinstance(end, dict)
                else None
                for end in ends
            ]
            transformations.read(link, f"{where}[{i}]", counts[0], counts[1], reading)


async def _open_parameter(opened: _Opened, path: str) -> Nodes:
    document = await fetch_array(opened.source, opened.group, path)
    if document is not None:
        return {"": parameter_dataset(open_array(opened.source, path, document))}
    group = await fetch_child_group(opened.source, opened.group, path)
    if group is None:
        raise StoreNotFoundError("there is neither an array nor a group")
    opening = replace(opened.opening, labels=False, multiscale=0)
    return await open_nodes(opened.source.child(path), group, opening)


_OPENERS: Mapping[str, Callable[[_Opened], Awaitable[Nodes]]] = {
    "image": _open_image,
    "plate": _open_plate,
    "well": _open_well,
    "collection": _open_collection,
    "series": _open_listing,
    "labels group": _open_labels_group,
    "scene": _open_scene,
}

Arrays = list[tuple[Level, "zarr.Array[Any]"]]


def _open_arrays(
    opened: _Opened, image: Image, documents: list[Document | None], number: int = 0
) -> tuple[Image, Arrays]:
    """Return the image and the array of each level that is there, or raise if they do not fit."""
    report = opened.report
    arrays: Arrays = []
    axes = image.multiscale.axes
    ndim = len(axes)
    missing = []
    for i, (level, document) in enumerate(zip(image.multiscale.levels, documents, strict=True)):
        where = f"multiscales[{number}].datasets[{i}].path"
        if document is None:
            missing.append((where, f"there is no array at {shown(level.path)}"))
            continue
        array = open_array(opened.source, level.path, document)
        if array.ndim != ndim:
            found = (
                f"{shown(level.path)} has {array.ndim} dimensions {array.shape}, "
                f"but there are {ndim} axes"
            )
            report.fail(where, rules.LEVEL_NDIM, found)
        else:
            arrays.append((level, array))
    for where, found in missing:
        if arrays:
            report.error(where, rules.LEVEL_ARRAY, f"{found}; the level is left out")
        else:
            report.fail(where, rules.LEVEL_ARRAY, found)
    report.check()
    placed = geometry.placed([level for level, _ in arrays], [a.shape for _, a in arrays], axes)
    image = replace(image, multiscale=replace(image.multiscale, levels=placed))
    arrays = [(level, array) for level, (_, array) in zip(placed, arrays, strict=True)]
    for level, array in arrays:
        _check_coordinates(image, level, array.shape, report)
    total = sum(sum(array.shape) for _, array in arrays)
    if total > MAX_COORDINATES:
        shapes = shown([array.shape for _, array in arrays])
        found = f"declare axes of {total} pixels together: {shapes}"
        report.fail("multiscales[0].datasets", rules.DATASETS, found)
    report.check()
    return image, arrays


def _check_coordinates(image: Image, level: Level, shape: tuple[int, ...], report: Report) -> None:
    """Refuse geometry that floats cannot hold, and more channels than there can be names."""
    axes = image.multiscale.axes
    where = f"multiscales[0].datasets: {shown(level.path)}"
    scale, translation = transforms.scale_and_translation(placement(level), len(axes))
    for axis, size, step, start in zip(axes, shape, scale, translation, strict=True):
        if axis.type == "channel":
            if size > MAX_CHANNELS:
                found = f"declares {size} channels, more than {MAX_CHANNELS}"
                report.fail(where, rules.DATASETS, found)
            if start:
                found = f"axis {axis.name}: channels have names, no translation {start}"
                report.warn(where, rules.VECTOR, found)
        elif not geometry.are_distinct(size, step, start):
            found = (
                f"axis {axis.name}: scale {step:g} and translation {start:g} cannot tell "
                f"{size} pixels apart"
            )
            report.fail(where, rules.VECTOR, found)


def _check_arrays(image: Image, arrays: Arrays, is_label: bool, report: Report) -> None:
    """Note what is odd about arrays that can be read."""
    first = arrays[0][1]
    for i, (_, array) in enumerate(arrays):
        where = f"multiscales[0].datasets[{i}].path"
        _check_separator(array, where, report)
        _, previous = arrays[max(i - 1, 0)]
        if any(np.greater(array.shape, previous.shape)):
            found = f"{array.shape} is larger than the level before it"
            report.error(where, rules.LEVEL_ORDER, found)
        if array.dtype != first.dtype:
            found = f"has dtype {array.dtype}, the first level {first.dtype}"
            report.error(where, rules.LEVEL_DTYPE, found)
    if is_label and first.dtype.kind not in "iu":
        report.error("image-label", rules.LABEL_DTYPE, f"expected integers, found {first.dtype}")
    _check_channels(image, first.shape, report)


def _check_names(image: Image, documents: list[Document | None], report: Report) -> None:
    """Note arrays of Zarr v3 whose dimensions are not called as the axes are."""
    names = [axis.extra.get("name", axis.name) for axis in image.multiscale.axes]
    for i, document in enumerate(documents):
        if document is None:
            continue
        where = f"multiscales[0].datasets[{i}].path"
        stored = document.get("dimension_names")
        if stored is None and report.version == "0.5" and document.get("zarr_format") == 3:
            report.error(where, rules.DIMENSION_NAMES, f"has no dimension_names, expected {names}")
        elif stored is not None and stored != names:
            found = f"dimension_names {shown(stored)} differ from the axes {names}, which win"
            report.error(where, rules.DIMENSION_NAMES, found)


def _check_separator(array: zarr.Array[Any], where: str, report: Report) -> None:
    """Note flat chunk keys from 0.2 on."""
    separator = getattr(array.metadata, "dimension_separator", None)
    nested = report.version in ("0.2", "0.3", "0.4")
    if nested and separator == "." and array.ndim > 1:
        found = "chunks are separated by '.', expected '/'"
        report.warn(where, rules.CHUNK_KEYS, found)


def _check_channels(image: Image, shape: tuple[int, ...], report: Report) -> None:
    stored = (image.omero or {}).get("channels")
    size = channel_count(image, shape)
    if isinstance(stored, list) and len(stored) != size:
        found = f"describes {len(stored)} channels, the image has {size}"
        report.warn("omero.channels", rules.OMERO_COUNT, found)


def _check_labels(image: Image, labels: Nodes, report: Report) -> None:
    """Note label images with another number of levels than the image."""
    count = len(image.multiscale.levels)
    for path, node in labels.items():
        paths = node.encoding.get("level_paths")
        if paths is not None and len(paths) != count:
            found = f"has {len(paths)} levels, the image has {count}"
            report.error(f"labels/{path}", rules.LABEL_LEVELS, found)
