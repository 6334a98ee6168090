"""What a group is, and which version it follows, by what its attributes say."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ngff_xarray.model import Json
from ngff_xarray.spec.collections import LAYOUT
from ngff_xarray.spec.nodes import is_node

# what a node of RFC-8 is, by its type
NODE_KINDS = {"collection": "linked collection", "multiscale": "linked image"}

# what a group can be, by the key that says so, first one first
_KINDS = {
    "plate": "plate",
    "well": "well",
    "scene": "scene",
    "multiscales": "image",
    LAYOUT: "collection",
    "labels": "labels group",
    "series": "series",
    "image-label": "label",
    "coordinateTransformations": "scene",  # what drafts of 0.6 called it
}


def detect_kind(attributes: Json) -> str | None:
    """Return what a group's attributes say it is, or None if they are not OME's.

    Examples
    --------
    >>> detect_kind({"ome": {"version": "0.5", "multiscales": []}}), detect_kind({"title": "x"})
    ('image', None)
    """
    document = attributes.get("ome")
    if is_node(document):
        return NODE_KINDS[document["type"]]
    if isinstance(document, dict):
        return next((kind for key, kind in _KINDS.items() if key in document), None)
    found = [kind for key, kind in _KINDS.items() if key in attributes]
    return next((kind for kind in found if _LOOKS_LIKE_OME[kind](attributes)), None)


def _has_ome_multiscales(attributes: Json) -> bool:
    first = _first_multiscale(attributes)
    known = ("axes", "version", "coordinateTransformations", "coordinateSystems")
    datasets = first.get("datasets")
    paths = isinstance(datasets, list) and all(
        isinstance(d, dict) and "path" in d for d in datasets
    )
    return paths or any(key in first for key in known) or (bool(first) and "omero" in attributes)


def _has_names(key: str) -> Callable[[Json], bool]:
    def test(attributes: Json) -> bool:
        names = attributes.get(key)
        return isinstance(names, list) and all(isinstance(name, str) for name in names)

    return test


# Outside the key `ome`, other conventions use the same words: OME's form tells them apart
_LOOKS_LIKE_OME: Mapping[str, Callable[[Json], bool]] = {
    "plate": lambda attributes: isinstance(attributes["plate"], dict),
    "well": lambda attributes: isinstance(attributes["well"], dict),
    "scene": lambda attributes: False,
    "image": _has_ome_multiscales,
    "collection": lambda attributes: LAYOUT in attributes,
    "labels group": _has_names("labels"),
    "series": _has_names("series"),
    "label": lambda attributes: isinstance(attributes["image-label"], dict),
}


def is_claimed(attributes: Json) -> bool:
    """Tell whether the engine opens a group unasked: only what is OME's beyond doubt.

    Below the key ``ome`` that is anything with a version, elsewhere what has OME's form: other
    people's stores, whose attributes may use the same words, are left to the other engines.
    """
    kind = detect_kind(attributes)
    namespaced = isinstance(attributes.get("ome"), dict)
    document = attributes["ome"] if namespaced else attributes
    if kind in (None, "label") or (namespaced and isinstance(document.get("version"), str)):
        return kind not in (None, "label")
    return kind in _FORMS and _FORMS[kind](document)


def _has_lists(key: str, *lists: str) -> Callable[[Json], bool]:
    """Return a test for an object under a key that holds these lists."""

    def test(document: Json) -> bool:
        value = document[key]
        return isinstance(value, dict) and all(isinstance(value.get(n), list) for n in lists)

    return test


def _has_levels(document: Json) -> bool:
    first = _first_multiscale(document)
    described = any(isinstance(first.get(key), list) for key in ("axes", "coordinateSystems"))
    versioned = str(first.get("version", "")).startswith("0.") and bool(first.get("datasets"))
    return described or versioned or (bool(first) and "omero" in document)


_FORMS: Mapping[str, Callable[[Json], bool]] = {
    "plate": _has_lists("plate", "wells"),
    "well": _has_lists("well", "images"),
    "image": _has_levels,
    "collection": lambda document: LAYOUT in document,
}

_NAMESPACED = re.compile(r"0\.(\d+)")  # the version that a longer one, such as a draft, belongs to


def detect_version(attributes: Json, kind: str) -> str:
    """Return the version that a group's attributes follow (SPEC.md 1.7).

    Where their shape tells, it decides: versions are often stated wrongly, and the module of
    the version says so. Otherwise the version is the one they state, and where they state
    none, or one that is not known, the latest of that shape.

    Examples
    --------
    >>> detect_version({"multiscales": [{"axes": ["y", "x"], "version": "0.4"}]}, "image")
    '0.3'
    >>> detect_version({"ome": {"version": "0.5-dev-spatialdata", "labels": []}}, "labels group")
    '0.5'
    """
    if isinstance(attributes.get("ome"), dict):
        return _namespaced_version(attributes["ome"], kind)
    if kind == "image" or (kind == "label" and "multiscales" in attributes):
        return _image_version(attributes)
    stated = _stated(attributes.get("image-label" if kind == "label" else kind))
    if stated in ("0.1", "0.2", "0.3", "0.4"):
        return stated
    plate = attributes.get("plate")
    wells = plate.get("wells") if kind == "plate" and isinstance(plate, dict) else None
    first = wells[0] if isinstance(wells, list) and wells else None
    unindexed = isinstance(first, dict) and not {"rowIndex", "columnIndex"} & set(first)
    return "0.3" if unindexed and stated is None else "0.4"


def _stated(document: Any) -> str | None:
    version = document.get("version") if isinstance(document, dict) else None
    return version if isinstance(version, str) else None


def _namespaced_version(document: Json, kind: str) -> str:
    stated = _stated(document)
    first = _first_multiscale(document)
    if kind in ("scene", *NODE_KINDS.values()) or "coordinateSystems" in first:
        return "0.6"
    if "axes" in first:
        return "0.5"
    match = _NAMESPACED.match(stated or "")
    return "0.6" if match and int(match[1]) >= 6 else "0.5"


def _image_version(attributes: Json) -> str:
    entry = _first_multiscale(attributes)
    if "coordinateSystems" in entry:
        return "0.6"
    axes = entry.get("axes")
    if isinstance(axes, list) and axes and all(isinstance(axis, str) for axis in axes):
        return "0.4" if _is_placed(entry) else "0.3"
    stated = _stated(entry)
    if isinstance(axes, list) and any(isinstance(axis, dict) for axis in axes):
        return "0.4"
    if stated in ("0.1", "0.2", "0.3", "0.4"):
        return stated
    return "0.4" if "axes" in entry or stated is not None or _is_placed(entry) else "0.2"


def _is_placed(entry: Json) -> bool:
    """Tell whether the first level has transformations, which 0.4 brought."""
    datasets = entry.get("datasets")
    first = datasets[0] if isinstance(datasets, list) and datasets else None
    return isinstance(first, dict) and "coordinateTransformations" in first


def _first_multiscale(document: Json) -> Json:
    multiscales = document.get("multiscales")
    first = multiscales[0] if isinstance(multiscales, list) and multiscales else None
    return first if isinstance(first, dict) else {}
