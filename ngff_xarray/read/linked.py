"""Collections and images that RFC-8 describes -> nodes: inline, or found by their paths."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import xarray as xr

from ngff_xarray.errors import NgffError, StoreError, StoreNotFoundError, UnsupportedError
from ngff_xarray.read.opening import MAX_CHILDREN, Nodes, Opened, Opening, with_below
from ngff_xarray.read.reach import find
from ngff_xarray.spec import nodes as rfc8
from ngff_xarray.spec import rules
from ngff_xarray.spec.report import shown
from ngff_xarray.storage import Guarded
from ngff_xarray.store import Group, Source, fetch_array, fetch_group, fetch_json
from ngff_xarray.text import printable
from ngff_xarray.virtual.document import DocumentStore

MAX_DEPTH = 8  # collections in one another

Node = Mapping[str, Any]


async def open_linked(opened: Opened) -> Nodes:
    """Return the nodes of a collection that lists its images by their paths."""
    document = {k: v for k, v in opened.content.document.items() if k != "version"}
    if "scene" in rfc8.attributes_of(document):
        found = "places images in common systems: it is kept, and not applied"
        opened.report.warn("attributes.scene", rules.NODE, found)
    below = await _open_listed(opened, _base(opened), document, "")
    # the version of what it leads to is another thing
    stated = opened.content.document.get("version")
    version = stated if isinstance(stated, str) else None
    return with_below(opened.node(document, ome_version=version), below)


async def open_linked_image(opened: Opened) -> Nodes:
    """Return the nodes of an image whose group describes it as a node."""
    return await _open_inline(opened, _base(opened), opened.content.document)


def _base(opened: Opened) -> Source:
    """Return the directory that the paths of a document start from."""
    source = opened.source
    guarded = isinstance(source.store, Guarded)
    inner = source.store.store if isinstance(source.store, Guarded) else source.store
    if source.path or not isinstance(inner, DocumentStore):
        return source
    place = inner.directory
    files = inner.files
    if guarded and not isinstance(files, Guarded):
        files = Guarded(files, place, opened.opening.access)
    return Source(files, "", source.url.rpartition("/")[0] or "/", place)


async def _open_listed(
    opened: Opened, base: Source, document: Node, where: str
) -> dict[str, Nodes]:
    """Return the nodes that a node lists, by their names; all are opened at the same time."""
    listed = rfc8.inner_nodes(document)
    seen = opened.opening.seen
    room = MAX_CHILDREN - seen.count
    if len(listed) > room:
        left_out = f"there are more than {MAX_CHILDREN} nodes in all: the others are left out"
        opened.report.error(f"{where}nodes", rules.NODE_NODES, left_out)
        listed = listed[: max(room, 0)]
    seen.count += len(listed)
    names = rfc8.tree_names([node for _, node in listed])
    opening = opened.opening
    if len(listed) > 1:
        opening.bar.more(len(listed))

    async def one(at: str, node: Node) -> Nodes:
        try:
            return await _open_node(opened, base, node, f"{where}{at}")
        finally:
            opening.bar.did(len(listed) > 1)

    found = await asyncio.gather(*(one(at, node) for at, node in listed), return_exceptions=True)
    opened_nodes: dict[str, Nodes] = {}
    for name, (at, node), nodes in zip(names, listed, found, strict=True):
        if isinstance(nodes, dict) and nodes:
            opened_nodes[name] = nodes
            continue
        if isinstance(nodes, BaseException):
            opened.note(name, nodes, rules.NODE_PATH, f"{where}{at}")
        opened_nodes[name] = {"": _kept(opened, node)}
    return opened_nodes


def _kept(opened: Opened, node: Node) -> xr.Dataset:
    """Return the node of what is not opened: what the document says of it."""
    dataset = xr.Dataset(attrs={"node": dict(node)})
    dataset.encoding = {"source": opened.source.url}
    return dataset


async def _open_node(opened: Opened, base: Source, node: Node, where: str) -> Nodes:
    if node.get("type") not in ("collection", "multiscale"):
        found = f"{shown(node.get('type'))} is kept, and not opened"
        opened.report.warn(f"{where}.type", rules.NODE_TYPE, found)
        return {}
    if not isinstance(node.get("nodes"), list):
        return _with_node(await _open_referenced(opened, base, node, where), node)
    if node["type"] == "multiscale":
        return _with_node(await _open_inline(opened, base, node), node)
    if where.count("nodes") > MAX_DEPTH:
        raise StoreError("stands too deep in others")
    inner = xr.Dataset(attrs={"ome": {key: node[key] for key in node if key != "version"}})
    inner.encoding = {"source": base.url, "zarr_format": 3}
    return with_below(inner, await _open_listed(opened, base, node, f"{where}."))


def _with_node(nodes: Nodes, node: Node) -> Nodes:
    """Return the nodes of an image or collection with what the document above says of it.

    Attributes of a collection are those of both, and where both say something those above.
    """
    said = {key: value for key, value in node.items() if key not in ("nodes", "path", "version")}
    root = nodes[""]
    ome = root.attrs.get("ome", {})
    if rfc8.is_node(ome, ("collection",)):
        attributes = {**rfc8.attributes_of(ome), **rfc8.attributes_of(node)}
        root.attrs["ome"] = {**ome, **said, **({"attributes": attributes} if attributes else {})}
    else:
        root.attrs["node"] = said
    return nodes


async def _open_referenced(opened: Opened, base: Source, node: Node, where: str) -> Nodes:
    """Return the nodes of what stands elsewhere, and is known by its path."""
    kind, path = rfc8.path_of(node)
    if kind not in rfc8.PATH_TYPES:
        raise UnsupportedError(
            f"its path is of the type {shown(kind)}: expected {' or '.join(rfc8.PATH_TYPES)}"
        )
    opening = opened.opening
    place = find(base, path, opening.access)
    if place.store is not base.store:
        found = f"is read from {printable(place.url, 500)}"
        opened.report.warn(f"{where}.path", rules.NODE_ORIGIN, found)
    key = f"{place.address} {place.path}"
    if key in opening.documents or len(opening.documents) > MAX_DEPTH:
        raise StoreError("leads back to a collection that it stands in, or too deep")
    place, group = await (_fetch_json if kind == "json" else _fetch_zarr)(place)
    return await opened.open_nodes(
        place,
        group,
        _below(opening, rfc8.is_labels(node), documents=(*opening.documents, key)),
    )


def _below(opening: Opening, is_label: bool, **changed: Any) -> Opening:
    """Return what of an image below is wanted, which follows a version of its own."""
    alone = {"wells": None, "multiscale": 0, "version": None, "is_label": is_label}
    return replace(opening, **{**alone, **changed})


async def _fetch_zarr(place: Source) -> tuple[Source, Group]:
    group = await fetch_group(place)
    if group is None:
        raise StoreNotFoundError("there is no group")
    return place, group


async def _fetch_json(place: Source) -> tuple[Source, Group]:
    """Return the directory that a document stands in, and what it says."""
    name = place.path.rpartition("/")[2]
    if not name:  # of a store of its own
        raise StoreNotFoundError("there is no document")
    document = await fetch_json(place.parent, name)
    if document is None:
        raise StoreNotFoundError("there is no document")
    inner = document.get("attributes")  # of a group's own zarr.json
    attributes = inner if "ome" not in document and isinstance(inner, dict) else document
    return place.parent, Group(3, attributes)


async def _open_inline(opened: Opened, base: Source, node: Node) -> Nodes:
    """Return the nodes of an image whose levels a document lists."""
    scales = [scale for _, scale in rfc8.inner_nodes(node)]
    paths = [rfc8.path_of(scale)[1] for scale in scales]
    if not scales or not all(paths):
        raise StoreError("its levels have no paths")
    above, names = _apart(paths)
    place = find(base, above, opened.opening.access) if above else base
    group = Group(3, {})
    links = await asyncio.gather(
        *(_links(place, group, node, each, name) for each, name in zip(scales, names, strict=True))
    )
    document = rfc8.as_image(node, names, links)
    return await opened.open_nodes(
        place,
        Group(3, {**opened.others, "ome": document} if base is place else {"ome": document}),
        _below(opened.opening, rfc8.is_labels(node), labels=False),
        kind="image",
    )


def _apart(paths: Sequence[str]) -> tuple[str, list[str]]:
    """Return the directory that all paths lead through, and the rest of each.

    Examples
    --------
    >>> _apart(["./raw/0", "raw/1"]), _apart(["0"])
    (('raw', ['0', '1']), ('', ['0']))
    """
    parts = [path.removeprefix("./").rstrip("/").split("/") for path in paths]
    shared = 0
    shortest = min(len(each) for each in parts) - 1
    while shared < shortest and len({each[shared] for each in parts}) == 1:
        shared += 1
    return "/".join(parts[0][:shared]), ["/".join(each[shared:]) for each in parts]


async def _links(place: Source, group: Group, node: Node, scale: Node, path: str) -> list[Any]:
    """Return the transformations of a level, from its array where the document says none."""
    found = rfc8.links_of(node, scale)
    if found:
        return found
    try:
        array = await fetch_array(place, group, path)
    except NgffError:  # which opening it says
        return []
    said = (array or {}).get("attributes")
    own = said.get("ome") if isinstance(said, dict) else None
    return rfc8.links_of({}, own) if isinstance(own, dict) else []
