"""JSON to model and back: the only place that knows versions of the specification.

A version is one module with the names of the `Version` protocol, and one line in `VERSIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, cast

from ngff_xarray.errors import NotOmeError, UnsupportedError
from ngff_xarray.model import Image, Json
from ngff_xarray.spec import v04, v05
from ngff_xarray.spec.detect import detect_kind, detect_version, is_claimed
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.spec.values import is_relative
from ngff_xarray.text import printable

__all__ = [
    "VERSIONS",
    "Version",
    "detect_kind",
    "detect_version",
    "is_claimed",
    "label_names",
    "read",
]


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

# what to do about groups that are no image
_LATER = {
    "plate": 'open one field of it, for example with group="A/1/0"',
    "well": 'open one field of it, for example with group="0"',
    "scene": "open one of its images with group=",
    "collection": 'open one image of it, for example with group="0"',
    "labels group": "open one label image of it with group=",
}


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
