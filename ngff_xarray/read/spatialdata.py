"""A SpatialData store -> nodes: its images and labels, as a collection."""

from __future__ import annotations

from typing import Any

import xarray as xr
from zarr.storage import LocalStore

from ngff_xarray.model import Collection
from ngff_xarray.read.opening import Nodes, Opened, Opening, OpenNodes, with_below
from ngff_xarray.spec import rules
from ngff_xarray.spec.collections import LAYOUT
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.spec.values import is_relative
from ngff_xarray.store import Group, Source, fetch_child_group, join

_KINDS = ("images", "labels", "points", "shapes", "tables")


async def open_spatialdata(
    source: Source, group: Group, opening: Opening, report: Report, open_nodes: OpenNodes
) -> Nodes:
    """Return the nodes of images and labels, at their paths and where their systems place them."""
    version = "0.4" if group.zarr_format == 2 else "0.5"
    report.version = version
    attributes: dict[str, Any] = dict(group.attributes)
    content = Collection(None, {LAYOUT: 3})
    opened = Opened(source, group, version, content, attributes, opening, report, open_nodes)
    elements = {kind: await _listed(opened, kind) for kind in _KINDS}
    images = [join("images", name) for name in elements["images"]]
    labels = [join("labels", name) for name in elements["labels"]]
    common: dict[str, Any] = {"labels": False, "spatial": True}
    rule = rules.SERIES_MISSING
    found = await opened.children(images, rule, "images", **common)
    found |= await opened.children(labels, rule, "labels", is_label=True, **common)
    if not images and not labels:
        report.warn(
            "images", None, "no images and labels are listed: open one by its path, images/NAME"
        )
    others = [join(kind, name) for kind in _KINDS[2:] for name in elements[kind]]
    if others:
        report.warn("elements", None, f"points, shapes and tables are not read: {shown(others)}")
    listing = xr.Dataset(attrs={"ome": {"series": list(found)}})
    root = opened.node(dict(content.document), dropped=tuple(others))
    return with_below(root, {"OME": {"": listing}, **found})


async def _listed(opened: Opened, kind: str) -> list[str]:
    """Return the names of the elements of a kind, as the store lists them."""
    documents = opened.group.documents
    if documents and not isinstance(opened.source.store, LocalStore):
        found = [path.split("/")[1] for path in documents if path.startswith(f"{kind}/")]
    else:
        place = opened.source.child(kind)
        try:
            found = [name async for name in place.store.list_dir(place.path)]
        except Exception:  # whatever a store does that cannot list, or has no such group
            found = []
        if kind == "labels" and not found:
            found = await _said(opened)
    return sorted({name for name in found if name and not name.startswith((".", "zarr.json"))})


async def _said(opened: Opened) -> list[str]:
    """Return the names of the labels, which their group lists."""
    group = await fetch_child_group(opened.source, opened.group, "labels")
    said = {} if group is None else group.attributes.get("ome", group.attributes)
    names = said.get("labels") if isinstance(said, dict) else None
    listed = names if isinstance(names, list) else []
    return [name for name in listed if isinstance(name, str) and is_relative(name)]
