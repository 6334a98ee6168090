"""JSON to model and back: the only place that knows versions of the specification.

A version is one module with the names of the `Version` protocol, and one line in `VERSIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, cast

from ngff_xarray.errors import NotOmeError, UnsupportedError
from ngff_xarray.model import Image, Json
from ngff_xarray.spec import v04, v05
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.spec.values import is_relative
from ngff_xarray.text import printable


class Version(Protocol):
    """What the module of a version has."""

    VERSION: str
    ZARR_FORMAT: Literal[2, 3]

    def ome_document(self, attributes: Json, /) -> Json:
        """Return what of a group's attributes is OME's."""
        ...

    def other_attributes(self, attributes: Json, /) -> dict[str, Any]:
        """Return what of a group's attributes is not OME's."""
        ...

    def read(self, document: Json, report: Report, /) -> Image:
        """Return the image that an OME document describes."""
        ...

    def write(self, image: Image, /) -> dict[str, Any]:
        """Return the group's attributes that describe an image."""
        ...

    def write_labels(self, names: list[str], /) -> dict[str, Any]:
        """Return the attributes of the group that lists label images."""
        ...


VERSIONS: Mapping[str, Version] = {
    module.VERSION: module for module in cast("list[Version]", [v04, v05])
}

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
_LATER = {
    "plate": 'open one field of it, for example with group="A/1/0"',
    "well": 'open one field of it, for example with group="0"',
    "scene": "open one of its images with group=",
    "collection": 'open one image of it, for example with group="0"',
    "labels group": "open one label image of it with group=",
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
        return "0.5"
    axes = entry.get("axes")
    if isinstance(axes, list) and axes and all(isinstance(axis, str) for axis in axes):
        return "0.3"
    stated = entry.get("version")
    if "axes" in entry or stated in list(VERSIONS):  # a list: what is stated may be no hash key
        return "0.4"
    return stated if isinstance(stated, str) else "0.2"


def _first_multiscale(document: Json) -> Json:
    multiscales = document.get("multiscales")
    first = multiscales[0] if isinstance(multiscales, list) and multiscales else None
    return first if isinstance(first, dict) else {}


def read(attributes: Json, report: Report) -> tuple[str, Image, dict[str, Any]]:
    """Return the version, the image and the attributes that are not OME's.

    Parameters
    ----------
    attributes
        The attributes of the image's group.
    report
        Takes what is wrong or odd.

    Raises
    ------
    NotOmeError
        If the attributes are not OME's.
    UnsupportedError
        If they describe something other than an image, or a version this release cannot read.
    MetadataError
        If they describe an image that cannot be read.
    """
    kind = detect_kind(attributes)
    if kind is None:
        raise NotOmeError(
            f"{report.source}: is no OME-Zarr image: its attributes have no 'multiscales' "
            f"(they have {shown(sorted(attributes)) if attributes else 'nothing'})"
        )
    if kind != "image":
        raise UnsupportedError(
            f"{report.source}: is an OME-Zarr {kind}, which this release cannot open whole: "
            f"{_LATER[kind]}"
        )
    name = detect_version(attributes)
    version = VERSIONS.get(name)
    if version is None:
        known = " and ".join(VERSIONS)
        raise UnsupportedError(
            f"{report.source}: is OME-Zarr {printable(name)}; this release reads {known}"
        )
    image = version.read(version.ome_document(attributes), report)
    return name, image, version.other_attributes(attributes)


def label_names(attributes: Json, report: Report) -> tuple[str, ...]:
    """Return the paths of the label images that a labels group lists."""
    document = attributes.get("ome", attributes)
    names = document.get("labels") if isinstance(document, dict) else None
    if names is None:
        names = attributes.get("labels", [])
    if not isinstance(names, list):
        report.error("labels", f"expected a list of paths, found {shown(names)}; ignored")
        return ()
    good = [n for n in names if isinstance(n, str) and is_relative(n)]
    if len(good) < len(names):
        report.error("labels", f"expected paths below the labels group, found {shown(names)}")
    return tuple(dict.fromkeys(name.strip("/") for name in good))
