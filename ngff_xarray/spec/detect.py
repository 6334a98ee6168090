"""What a group is, and which version it follows, by what its attributes say."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ngff_xarray.model import Json
from ngff_xarray.spec import v04, v05

# what a group can be, by the key that says so, first one first
_KINDS = {
    "plate": "plate",
    "well": "well",
    "scene": "scene",
    "multiscales": "image",
    "bioformats2raw.layout": "collection",
    "labels": "labels group",
    "series": "collection",
}


def detect_kind(attributes: Json) -> str | None:
    """Return what a group's attributes say it is, or None if they are not OME's.

    Examples
    --------
    >>> detect_kind({"ome": {"version": "0.5", "multiscales": []}}), detect_kind({"title": "x"})
    ('image', None)
    """
    document = attributes.get("ome")
    if isinstance(document, dict):
        return next((kind for key, kind in _KINDS.items() if key in document), None)
    found = [kind for key, kind in _KINDS.items() if key in attributes]
    return next((kind for kind in found if _LOOKS_LIKE_OME[kind](attributes)), None)


def _has_ome_multiscales(attributes: Json) -> bool:
    first = _first_multiscale(attributes)
    known = ("axes", "version", "coordinateTransformations", "coordinateSystems")
    return any(key in first for key in known) or (bool(first) and "omero" in attributes)


def _has_label_names(attributes: Json) -> bool:
    names = attributes["labels"]
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


# Outside the key `ome`, other conventions use the same words: OME's form tells them apart
_LOOKS_LIKE_OME: Mapping[str, Callable[[Json], bool]] = {
    "plate": lambda attributes: isinstance(attributes["plate"], dict),
    "well": lambda attributes: isinstance(attributes["well"], dict),
    "scene": lambda attributes: False,
    "image": _has_ome_multiscales,
    "collection": lambda attributes: "bioformats2raw.layout" in attributes,
    "labels group": _has_label_names,
}


def is_claimed(attributes: Json) -> bool:
    """Tell whether the engine opens a group unasked: only what is OME's beyond doubt.

    Below the key ``ome`` that is anything with a version, elsewhere what has OME's form: other
    people's stores, whose attributes may use the same words, are left to the other engines.
    """
    kind = detect_kind(attributes)
    namespaced = isinstance(attributes.get("ome"), dict)
    document = attributes["ome"] if namespaced else attributes
    if kind is None or (namespaced and isinstance(document.get("version"), str)):
        return kind is not None
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
    "collection": lambda document: "bioformats2raw.layout" in document,
}


def detect_version(attributes: Json) -> str:
    """Return the version that the attributes of an image's group follow.

    Where their shape tells, it decides: versions are often stated wrongly, and the module of
    the version says so. Images without axes have the version they state.
    """
    namespaced = isinstance(attributes.get("ome"), dict)
    entry = _first_multiscale(attributes["ome"] if namespaced else attributes)
    if "coordinateSystems" in entry:
        return "0.6"
    if namespaced:
        return v05.VERSION
    axes = entry.get("axes")
    if isinstance(axes, list) and axes and all(isinstance(axis, str) for axis in axes):
        return "0.3"
    stated = entry.get("version")
    if "axes" in entry or stated in (v04.VERSION, v05.VERSION):
        return v04.VERSION
    return stated if isinstance(stated, str) else "0.2"


def _first_multiscale(document: Json) -> Json:
    multiscales = document.get("multiscales")
    first = multiscales[0] if isinstance(multiscales, list) and multiscales else None
    return first if isinstance(first, dict) else {}
