"""Groups that list others -> nodes: collections, labels groups and scenes."""

from __future__ import annotations

import asyncio

import xarray as xr

from ngff_xarray import spec
from ngff_xarray.model import Collection, Scene
from ngff_xarray.read.opening import MAX_CHILDREN, Nodes, Opened, with_below, with_extra
from ngff_xarray.read.parameters import (
    check_parameters,
    check_references,
    linked_paths,
    open_parameters,
    system_sizes,
)
from ngff_xarray.spec import rules
from ngff_xarray.spec.collections import read_series
from ngff_xarray.spec.report import Report
from ngff_xarray.store import fetch_child_group


async def open_collection(opened: Opened) -> Nodes:
    """Return the nodes of images beside each other: those listed, or numbered from 0 on."""
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
    return with_below(opened.node(document), below | children)


async def _numbered(opened: Opened) -> dict[str, Nodes]:
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


async def open_listing(opened: Opened) -> Nodes:
    """Return the node of a group that lists paths without being asked to open them."""
    document = {k: v for k, v in opened.content.document.items() if k != "version"}
    return {"": opened.node(document)}


async def open_labels_group(opened: Opened) -> Nodes:
    """Return the nodes of a labels group and the label images that it lists."""
    listed: Collection = opened.content
    paths = listed.paths or ()
    children = await opened.children(
        paths, rules.LABEL_MISSING, "labels", labels=False, is_label=True
    )
    return with_below((await open_listing(opened))[""], children)


async def open_scene(opened: Opened) -> Nodes:
    """Return the nodes of images and of what places them in one world."""
    scene: Scene = opened.content
    images, parameters = await asyncio.gather(
        opened.children(scene.paths, rules.SCENE_MISSING, "scene"),
        open_parameters(
            opened,
            scene.document["coordinateTransformations"],
            "scene.coordinateTransformations",
        ),
    )
    links = scene.document["coordinateTransformations"]
    there = [link for link in links if linked_paths(link) <= set(images)]
    check_references(there, images, "scene.coordinateTransformations", opened.report)
    sizes = system_sizes(scene.document)
    for path, nodes in images.items():
        sizes |= system_sizes(nodes[""].attrs["ome"], path)
    check_parameters(links, "scene.coordinateTransformations", parameters, sizes, opened.report)
    said = with_extra({"scene": dict(scene.document)}, scene.extra)
    return with_below(opened.node(said), parameters | images)
