"""ome-zarr-py: images by its classes, plates by its older reader, which stitches them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import told
from ome_zarr import OMEZarrMultiscale
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader


def _levels(multiscale: Any) -> list[told.Json]:
    found = []
    for read, dataset in zip(multiscale.images, multiscale.metadata.datasets, strict=True):
        steps = getattr(dataset.coordinateTransformations[0], "transformations", ())
        moved = [step.translation for step in steps if step.type == "translation"]
        translation = moved[0] if moved else [0] * read.data.ndim
        found.append(told.level(read.data.compute(), read.scale.values(), translation))
    return found


def _image(multiscale: Any, **more: Any) -> told.Json:
    axes = multiscale.metadata.intrinsic_coordinate_system.axes
    return told.image(((axis.name, axis.unit) for axis in axes), _levels(multiscale), **more)


def read_image(path: Path) -> told.Json:
    multiscale = OMEZarrMultiscale.from_ome_zarr(str(path))
    labels = {
        name: told.label(_image(below), below.images[0].data.compute())
        for name, below in (multiscale.labels or {}).items()
    }
    omero = multiscale.omero
    channels = omero and [(each.label, each.color) for each in omero.channels]
    return _image(multiscale, channels=channels, labels=labels)


def _stitched(path: Path) -> list[str] | str:
    """The first field of every well, side by side, at every level."""
    try:
        node = next(iter(Reader(parse_url(str(path)))()))
    except Exception as error:
        return type(error).__name__
    return [told.level(each.compute(), (), None)["voxels"] for each in node.data]


def read_plate(path: Path) -> told.Json:
    """Wells and fields by their paths; what the older reader makes of all stands beside them."""
    return {**told.by_fields(path, read_image), "stitched": _stitched(path)}


told.tell(read_image, read_plate)
