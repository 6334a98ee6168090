"""OME-Zarr 0.3: axes by name, without units or scales. Read only."""

from __future__ import annotations

from typing import Literal

from ngff_xarray.model import Image, Json
from ngff_xarray.spec import documents, hcs, multiscales
from ngff_xarray.spec.report import Report

VERSION = "0.3"
ZARR_FORMAT: Literal[2, 3] = 2
split = documents.split_flat
write = None


def read_image(document: Json, report: Report, number: int = 0) -> Image:
    """Return the image that an OME document describes (SPEC 0.3, "multiscales" metadata)."""
    return multiscales.read_image(
        document, report, multiscales.read_named, version=VERSION, number=number
    )


READERS = {
    **documents.group_readers(
        read_image=read_image,
        well_names=hcs.FIELD_NAME,
        plate=hcs.PlateForm(VERSION, requires_version=True, indexed=False),
        well_version=VERSION,
    ),
}
