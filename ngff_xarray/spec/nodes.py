"""Collections and images as RFC-8 proposes them: nodes, inline or by path.

Read as in version 1 of the proposal, of August 2026 (https://ngff.openmicroscopy.org/rfc/8/),
and as in the examples of its drafts: https://github.com/normanrz/ngff-rfc8-collection-examples.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from ngff_xarray.model import Collection, Json
from ngff_xarray.spec import rules
from ngff_xarray.spec.report import Report, shown

PATH_TYPES = ("zarr", "json")
MAX_NAME = 200  # characters of a name in the tree
MAX_NODES = 2**12  # of a document, with those inside its nodes

_ID = re.compile(r"[a-zA-Z0-9\-_.]+")
_LINKS = "coordinateTransformations"
_SYSTEMS = "coordinateSystems"


def is_node(
    document: object, types: Sequence[str] = ("collection", "multiscale")
) -> TypeGuard[dict[str, Any]]:
    """Tell whether an OME document is a node of one of these types.

    Examples
    --------
    >>> is_node({"type": "collection", "nodes": []}), is_node({"multiscales": []})
    (True, False)
    """
    if not isinstance(document, dict) or document.get("type") not in types:
        return False
    return "nodes" in document or "path" in document


def read_node(document: Json, report: Report) -> Collection:
    """Return what a node says, after noting what is wrong in it and in the nodes inside it."""
    report.version = ""  # it follows none that is published
    if not isinstance(document.get("version"), str):
        report.error(
            "version", rules.NODE, f"expected text, found {shown(document.get('version'))}"
        )
    if not isinstance(document.get("nodes"), list):
        found = f"expected a list, found {shown(document.get('nodes'))}"
        report.stop("nodes", rules.NODE_NODES, found)
    ids: set[str] = set()
    for count, (where, node) in enumerate(_all_nodes(document)):
        if count == MAX_NODES:
            report.error("nodes", rules.NODE_NODES, f"more than {MAX_NODES} are not looked at")
            break
        _check(node, where, ids, report)
        if where and node.get("version", document.get("version")) != document.get("version"):
            found = f"is another one than that of the document: {shown(node.get('version'))}"
            report.error(f"{where}.version", rules.NODE_VERSION, found)
    return Collection(None, dict(document))


def _all_nodes(document: Json) -> Iterator[tuple[str, Json]]:
    """Yield a node and those inside it, with where they stand."""
    waiting: list[tuple[str, Json]] = [("", document)]
    while waiting:
        where, node = waiting.pop(0)
        yield where, node
        if len(waiting) <= MAX_NODES:
            waiting += [(f"{where}.{at}".strip("."), inner) for at, inner in inner_nodes(node)]


def inner_nodes(document: Json) -> list[tuple[str, Json]]:
    """Return the nodes that a node lists, with where they stand; what is no object is left out."""
    stored = document.get("nodes")
    nodes = stored if isinstance(stored, list) else []
    return [(f"nodes[{i}]", node) for i, node in enumerate(nodes) if isinstance(node, dict)]


def _check(node: Json, where: str, ids: set[str], report: Report) -> None:
    at = f"{where}." if where else ""
    if not isinstance(node.get("type"), str):
        report.error(f"{at}type", rules.NODE, f"expected text, found {shown(node.get('type'))}")
    if not isinstance(node.get("name"), str) or not node["name"]:
        report.error(f"{at}name", rules.NODE, f"expected text, found {shown(node.get('name'))}")
    found = node.get("id")
    if found is not None:
        if not isinstance(found, str) or not _ID.fullmatch(found):
            report.error(f"{at}id", rules.NODE_ID, f"found {shown(found)}")
        elif found in ids:
            report.error(f"{at}id", rules.NODE_ID, f"{shown(found)} stands here twice")
        else:
            ids.add(found)
    if not isinstance(node.get("attributes", {}), dict):
        text = f"expected an object, found {shown(node['attributes'])}"
        report.error(f"{at}attributes", rules.NODE, text)
    if "path" in node:
        _check_path(node, at, report)
    _check_listed(node, at, report)


def _check_path(node: Json, at: str, report: Report) -> None:
    path = node["path"]
    if not isinstance(path, dict) or not isinstance(path.get("path"), str):
        found = f"expected an object with the text 'path', found {shown(path)}"
        report.error(f"{at}path", rules.NODE_PATH, found)
    if "nodes" in node:
        report.error(f"{at}path", rules.NODE_NODES, "stands beside 'nodes', which are taken")


def _check_listed(node: Json, at: str, report: Report) -> None:
    stored = node.get("nodes")
    if "nodes" in node and not isinstance(stored, list):
        report.error(f"{at}nodes", rules.NODE_NODES, f"expected a list, found {shown(stored)}")
    for i, inner in enumerate(stored if isinstance(stored, list) else ()):
        if not isinstance(inner, dict):
            found = f"expected an object, found {shown(inner)}; left out"
            report.error(f"{at}nodes[{i}]", rules.NODE_NODES, found)
    names = [inner.get("name") for _, inner in inner_nodes(node)]
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        report.error(f"{at}nodes", rules.NODE, f"the name {shown(twice)} stands here twice")


def tree_names(nodes: Sequence[Json]) -> list[str]:
    """Return what nodes are called in a tree: by their names, each one different.

    Examples
    --------
    >>> tree_names([{"name": "a/b"}, {"name": "a/b"}, {"id": "raw"}, {}])
    ['a_b', 'a_b_2', 'raw', '3']
    """
    found: list[str] = []
    for i, node in enumerate(nodes):
        said = (node.get("name"), node.get("id"), str(i))
        text = next(text for text in said if isinstance(text, str) and text.strip(" ./"))
        name = unique = text.replace("/", "_")[:MAX_NAME]
        number = 1
        while unique in found:
            number += 1
            unique = f"{name}_{number}"
        found.append(unique)
    return found


def path_of(node: Json) -> tuple[str, str]:
    """Return the type and the text of a node's path; the text is "" where there is none."""
    path = node.get("path")
    if not isinstance(path, dict) or not isinstance(path.get("path"), str):
        return "", ""
    return str(path.get("type")), path["path"]


def attributes_of(node: Json) -> dict[str, Any]:
    """Return the attributes of a node."""
    found = node.get("attributes")
    return dict(found) if isinstance(found, dict) else {}


def is_labels(node: Json) -> bool:
    """Tell whether an image is one of labels."""
    return isinstance(attributes_of(node).get("labels"), dict)


def links_of(image: Json, scale: Json) -> list[Any]:
    """Return the transformations of a level: its own, or those that its image says of it."""
    own = attributes_of(scale).get(_LINKS)
    if isinstance(own, list):
        return own
    shared = attributes_of(image).get(_LINKS)
    links = shared if isinstance(shared, list) else []
    name = scale.get("id")
    return [link for link in links if name is not None and _end(link, "input").get("id") == name]


def as_image(node: Json, paths: Sequence[str], links: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Return what a multiscale node says as 0.6 says it, below ``ome``.

    Parameters
    ----------
    node
        The node.
    paths
        Where the arrays of its levels are, below the group.
    links
        The transformations of each level.
    """
    attributes = attributes_of(node)
    stored = attributes.pop(_SYSTEMS, None)
    systems = [_system(each) for each in stored or () if isinstance(each, dict)]
    names = [system["name"] for system in systems]
    scales = {str(scale.get("id")) for _, scale in inner_nodes(node)}
    shared = attributes.pop(_LINKS, None) or []
    beyond = [
        _link(link, names)
        for link in (shared if isinstance(shared, list) else [])
        if isinstance(link, dict) and str(_end(link, "input").get("id")) not in scales
    ]
    datasets = [
        {"path": path, _LINKS: [_link(link, names, path) for link in some]}
        for path, some in zip(paths, links, strict=True)
    ]
    labels = attributes.pop("labels", None)
    entry = {
        "name": node.get("name"),
        _SYSTEMS: systems,
        "datasets": datasets,
        **({_LINKS: beyond} if beyond else {}),
        **({"attributes": attributes} if attributes else {}),
    }
    document = {"version": "0.6", "multiscales": [entry]}
    return (
        document if not isinstance(labels, dict) else {**document, "image-label": _labels(labels)}
    )


def _system(stored: Json) -> dict[str, Any]:
    """Return a coordinate system that is known by its name; here it is known by its id."""
    rest = {key: value for key, value in stored.items() if key not in ("id", "name")}
    return {"name": stored.get("id", stored.get("name")), **rest}


def _end(link: Any, key: str) -> Json:
    end = link.get(key) if isinstance(link, dict) else None
    return end if isinstance(end, dict) else {}


def _link(link: Any, systems: Sequence[Any], path: str | None = None) -> Any:
    """Return a transformation with the ends that 0.6 has."""
    if not isinstance(link, dict):
        return link
    ends = {key: {"name": _named(_end(link, key), systems)} for key in ("input", "output")}
    if path is not None:
        ends["input"] = {"path": path}
    return {**link, **ends}


def _named(end: Json, systems: Sequence[Any]) -> Any:
    """Return the system that an end means: its id, or beside the id of an image its name."""
    return end.get("name") if end.get("id") not in systems and "name" in end else end.get("id")


def _labels(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an image says of its labels as ``image-label`` says it."""
    listed = stored.get("labelAttributes")
    entries = [e for e in listed if isinstance(e, dict)] if isinstance(listed, list) else []
    colors, properties = [], []
    for entry in entries:
        value = {"label-value": entry.get("labelValue")}
        rest = {k: v for k, v in entry.items() if k not in ("labelValue", "color")}
        if "color" in entry:
            colors.append({**value, "rgba": entry["color"]})
        if rest:
            properties.append({**value, **rest})
    return {
        **({"colors": colors} if colors else {}),
        **({"properties": properties} if properties else {}),
    }
