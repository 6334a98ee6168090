"""OME-Zarr 0.5: what 0.4 says, in Zarr v3 below the key ``ome``."""

from __future__ import annotations

from typing import Any, Literal

from ngff_xarray.model import Image, Json
from ngff_xarray.spec import documents, hcs, multiscales, namespace
from ngff_xarray.spec.documents import Content
from ngff_xarray.spec.report import Report

VERSION = "0.5"
ZARR_FORMAT: Literal[2, 3] = 3
split = documents.split_namespaced


def read_image(document: Json, report: Report, number: int = 0) -> Image:
    """Return the image that an OME document describes (SPEC 0.5, "multiscales" metadata)."""
    return multiscales.read_image(document, report, multiscales.read_placed, number=number)


READERS = namespace.checked(
    {
        **documents.group_readers(
            read_image=read_image,
            well_names=hcs.FIELD_NAME,
            plate=hcs.PlateForm(),
            well_version=None,
        ),
    },
    VERSION,
    VERSION.__eq__,
)


def write(content: Content, lossy: bool = False) -> dict[str, Any]:
    """Return the group's attributes that say the same in version 0.5.

    Raises
    ------
    UnsupportedError
        If it cannot say all of it, unless what it cannot say may be lost.
    """
    if not isinstance(content, Image):
        return {"ome": {"version": VERSION, **documents.write_group(content)}}
    if not lossy:
        multiscales.check_sayable(content.multiscale, VERSION)
    entry = multiscales.write_placed(content.multiscale)
    return {"ome": {"version": VERSION, **multiscales.write_image(content, entry)}}
