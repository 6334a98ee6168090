"""ngff-zarr: images, and plates by their wells and fields. It lists no labels: they have paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ngff_zarr
import told


def _image(multiscales: Any, **more: Any) -> told.Json:
    images = multiscales.images
    levels = (
        told.level(each.data.compute(), each.scale.values(), each.translation.values())
        for each in images
    )
    units = images[0].axes_units or {}
    return told.image(((dim, units.get(dim)) for dim in images[0].dims), levels, **more)


def _with_labels(multiscales: Any, path: Path) -> told.Json:
    labels = {}
    for name in told.document(path / "labels").get("labels", []):
        below = ngff_zarr.from_ome_zarr(path / "labels" / name)
        labels[name] = told.label(_image(below), below.images[0].data.compute())
    omero = multiscales.metadata.omero
    channels = omero and [(each.label, each.color) for each in omero.channels]
    return _image(multiscales, channels=channels, labels=labels)


def read_image(path: Path) -> told.Json:
    return _with_labels(ngff_zarr.from_ome_zarr(path), path)


def read_plate(path: Path) -> told.Json:
    plate = ngff_zarr.from_hcs_zarr(path)
    wells: told.Json = {}
    for each in plate.wells:
        well = plate.get_well(*each.path.split("/"))
        wells[each.path] = {
            image.path: _with_labels(well.get_image(n), path / each.path / image.path)
            for n, image in enumerate(well.images)
        }
    return {"wells": wells}


told.tell(read_image, read_plate)
