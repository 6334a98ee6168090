"""An image -> nodes: its levels, its labels, and the other images of its group."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ngff_xarray import spec
from ngff_xarray.describe import ome_attrs
from ngff_xarray.errors import NgffError
from ngff_xarray.lazy import level_dataset
from ngff_xarray.model import Image
from ngff_xarray.read.arrays import check_arrays, check_names, fetch_arrays, open_arrays
from ngff_xarray.read.opening import Nodes, Opened, image_number, nodes_below, with_below
from ngff_xarray.read.parameters import (
    check_parameters,
    check_references,
    open_parameters,
    system_sizes,
)
from ngff_xarray.spec import rules, spatialdata
from ngff_xarray.spec.report import Report
from ngff_xarray.store import Document, Group, fetch_child_group

MAX_LEVELS = 500  # of an image: each is a node
MAX_IMAGES = 64  # described in one group


async def open_image_nodes(opened: Opened) -> Nodes:
    """Return the nodes of an image, of its labels and of what else its group describes."""
    if opened.opening.spatial:
        opened = replace(opened, content=spatialdata.placed(opened.content, opened.report))
    image: Image = opened.content
    count = len(image.multiscale.levels)
    if count > MAX_LEVELS:
        found = f"lists {count} levels, more than {MAX_LEVELS}"
        opened.report.stop("multiscales[0].datasets", rules.DATASETS, found)
    labels, documents, parameters, others = await asyncio.gather(
        _open_labels(opened) if opened.opening.labels else _nothing(),
        fetch_arrays(opened, image),
        open_parameters(
            opened,
            list(image.multiscale.transformations),
            "multiscales[0].coordinateTransformations",
        ),
        _open_others(opened, image),
    )
    if _is_flat(opened, documents):
        opened = replace(opened, version="0.1")
        opened.report.version = "0.1"
    image, arrays = open_arrays(opened, image, documents)
    is_label = opened.opening.is_label or image.image_label is not None
    check_arrays(image, arrays, is_label, opened.report)
    check_names(image, documents, opened.report)
    _check_labels(opened.content, labels, opened.report)
    check_references(
        image.multiscale.transformations,
        {f"labels/{path}": {"": node} for path, node in labels.items() if "ome" in node.attrs},
        "multiscales[0].coordinateTransformations",
        opened.report,
    )
    ome = ome_attrs(image)
    check_parameters(
        image.multiscale.transformations,
        "multiscales[0].coordinateTransformations",
        parameters,
        system_sizes(ome),
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
    merged = with_below(root, nodes | more)
    if labels:
        merged |= nodes_below("labels", labels)
    return merged


def _is_flat(opened: Opened, documents: list[Document | None]) -> bool:
    """Tell whether an image is of version 0.1: no version, no axes, and flat chunk keys."""
    entries = opened.group.attributes.get("multiscales")
    stated = entries and isinstance(entries[0], dict) and "version" in entries[0]
    flat = [(doc or {}).get("dimension_separator", ".") == "." for doc in documents]
    return opened.version == "0.2" and not stated and all(flat)


async def _nothing() -> Nodes:
    return {}


async def _open_labels(opened: Opened) -> Nodes:
    """Return the nodes of the labels group of an image; what cannot be read becomes an issue."""
    source, report = opened.source, opened.report
    try:
        group = await fetch_child_group(source, opened.group, "labels")
        if group is None or not _labels_listed(group.attributes):
            return {}
        opening = replace(opened.opening, multiscale=0, version=opened.version)
        nodes = await opened.open_nodes(
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


def _alone(attributes: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return the attributes of a group as if it held one of its images only."""
    said = attributes.get("ome")
    if isinstance(said, dict) and "multiscales" in said:
        return {**attributes, "ome": {**said, "multiscales": [said["multiscales"][number]]}}
    return {**attributes, "multiscales": [attributes["multiscales"][number]]}


async def _open_others(opened: Opened, image: Image) -> dict[str, Nodes]:
    """Return the levels of the group's other images: their variable is called ``array``."""
    wanted = image_number(opened.group, opened.opening.multiscale, opened.source)
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
            documents = await fetch_arrays(opened, other)
            beside = replace(opened, report=Report(opened.source.url, opened.version))
            other, arrays = open_arrays(beside, other, documents, number)
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


def _check_labels(image: Image, labels: Nodes, report: Report) -> None:
    """Note label images with another number of levels than the image."""
    count = len(image.multiscale.levels)
    for path, node in labels.items():
        paths = node.encoding.get("level_paths")
        if paths is not None and len(paths) != count:
            found = f"has {len(paths)} levels, the image has {count}"
            report.error(f"labels/{path}", rules.LABEL_LEVELS, found)
