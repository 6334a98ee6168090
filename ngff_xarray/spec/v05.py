"""OME-Zarr 0.5: Zarr v3, everything below the key ``ome`` of the group's attributes."""

from __future__ import annotations

from typing import Any, Literal

from ngff_xarray.model import Image, Json
from ngff_xarray.spec import _common
from ngff_xarray.spec.report import Report, shown

VERSION = "0.5"
ZARR_FORMAT: Literal[2, 3] = 3


def ome_document(attributes: Json) -> Json:
    """Return what of a group's attributes is OME's."""
    document: Json = attributes["ome"]
    return document


def other_attributes(attributes: Json) -> dict[str, Any]:
    """Return what of a group's attributes is not OME's."""
    return {key: value for key, value in attributes.items() if key != "ome"}


def read(document: Json, report: Report) -> Image:
    """Return the image that an OME document describes (SPEC 0.5, "multiscales" metadata)."""
    image = _common.read_image(document, report)
    version = document.get("version")
    if version != VERSION:
        report.error("version", f"expected '0.5', found {shown(version)}")
    return image


def write(image: Image) -> dict[str, Any]:
    """Return the group's attributes that say the same in version 0.5."""
    return {"ome": {"version": VERSION, **_common.write_image(image)}}


def write_labels(names: list[str]) -> dict[str, Any]:
    """Return the attributes of the group that lists label images."""
    return {"ome": {"version": VERSION, "labels": names}}
