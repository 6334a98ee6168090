"""OME-Zarr 0.4: Zarr v2, the OME keys beside any others in ``.zattrs``."""

from __future__ import annotations

from typing import Any, Literal

from ngff_xarray.model import Image, Json
from ngff_xarray.spec import _common
from ngff_xarray.spec.report import Report, shown

VERSION = "0.4"
ZARR_FORMAT: Literal[2, 3] = 2

# whose attributes these are when they stand in a group of an image
_OME_KEYS = frozenset({"multiscales", "omero", "image-label", "_creator"})


def ome_document(attributes: Json) -> Json:
    """Return what of a group's attributes is OME's."""
    return {key: value for key, value in attributes.items() if key in _OME_KEYS}


def other_attributes(attributes: Json) -> dict[str, Any]:
    """Return what of a group's attributes is not OME's."""
    return {key: value for key, value in attributes.items() if key not in _OME_KEYS}


def read(document: Json, report: Report) -> Image:
    """Return the image that an OME document describes (SPEC 0.4, "multiscales" metadata)."""
    image = _common.read_image(document, report)
    version = document["multiscales"][0].get("version")
    if version is None:
        report.warn("multiscales[0].version", "is missing; read as 0.4 from its axes")
    elif version != VERSION:
        report.error("multiscales[0].version", f"expected '0.4', found {shown(version)}")
    return image


def write(image: Image) -> dict[str, Any]:
    """Return the group's attributes that say the same in version 0.4."""
    document = _common.write_image(image)
    for entry in (document["multiscales"][0], document.get("omero"), document.get("image-label")):
        if isinstance(entry, dict):
            entry["version"] = VERSION
    return document


def write_labels(names: list[str]) -> dict[str, Any]:
    """Return the attributes of the group that lists label images."""
    return {"labels": names}
