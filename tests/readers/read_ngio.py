"""ngio: containers of an image and its labels, and plates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ngio
import told


def _level(array: Any) -> told.Json:
    dataset = array.dataset
    return told.level(array.get_as_numpy(), dataset.scale, dataset.translation)


def _axes(array: Any) -> list[tuple[str, Any]]:
    return [(axis.name, axis.unit) for axis in array.axes_handler.axes]


def _container(found: Any) -> told.Json:
    labels = {}
    for name in found.list_labels():
        levels = [found.get_label(name, path=path) for path in found.get_label(name).meta.paths]
        read = told.image(_axes(levels[0]), map(_level, levels))
        labels[name] = told.label(read, levels[0].get_as_numpy())
    images = [found.get_image(path=path) for path in found.level_paths]
    said = [
        (each.label, each.channel_visualisation.color) for each in images[0].channels_meta.channels
    ]
    return told.image(_axes(images[0]), map(_level, images), said, labels)


def read_image(path: Path) -> told.Json:
    return _container(ngio.open_ome_zarr_container(path, mode="r"))


def read_plate(path: Path) -> told.Json:
    plate = ngio.open_ome_zarr_plate(path, mode="r")
    wells: told.Json = {}
    for below, found in plate.get_images(max_workers=1).items():
        well, _, name = below.rpartition("/")
        wells.setdefault(well, {})[name] = _container(found)
    return {"wells": wells}


told.tell(read_image, read_plate)
