"""OME-Zarr 0.4: axes with units, scales and translations; Zarr v2, beside other attributes."""

from __future__ import annotations

from typing import Any, Literal

from ngff_xarray.model import Fields, Image, Json, Plate
from ngff_xarray.spec import documents, hcs, multiscales
from ngff_xarray.spec.documents import Content
from ngff_xarray.spec.report import Report

VERSION = "0.4"
ZARR_FORMAT: Literal[2, 3] = 2
split = documents.split_flat


def read_image(document: Json, report: Report, number: int = 0) -> Image:
    """Return the image that an OME document describes (SPEC 0.4, "multiscales" metadata)."""
    return multiscales.read_image(
        document, report, multiscales.read_placed, version=VERSION, number=number
    )


READERS = {
    **documents.group_readers(
        read_image=read_image,
        well_names=hcs.FIELD_NAME,
        plate=hcs.PlateForm(VERSION),
        well_version=VERSION,
    ),
}


def write(content: Content, lossy: bool = False) -> dict[str, Any]:
    """Return the group's attributes that say the same in version 0.4.

    Raises
    ------
    UnsupportedError
        If it cannot say all of it, unless what it cannot say may be lost.
    """
    if not isinstance(content, Image):
        document = documents.write_group(content)
        for kind, key in ((Plate, "plate"), (Fields, "well")):
            if isinstance(content, kind):
                document[key]["version"] = VERSION
        return document
    if not lossy:
        multiscales.check_sayable(content.multiscale, VERSION)
    document = multiscales.write_image(content, multiscales.write_placed(content.multiscale))
    for entry in (document["multiscales"][0], document.get("omero"), document.get("image-label")):
        if isinstance(entry, dict):
            entry["version"] = VERSION
    return document
