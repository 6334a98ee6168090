"""bioio with bioio-ome-zarr: single images, of plates too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bioio_ome_zarr
import told
from bioio import BioImage


def _channels(found: Any) -> list[tuple[str, Any]] | None:
    names = found.reader.channel_names
    try:
        said = found.ome_metadata.images[0].pixels.channels
    except ValueError:
        return names and [(name, None) for name in names]
    colors = ["".join(f"{n:02X}" for n in each.color.as_rgb_tuple(alpha=False)) for each in said]
    return list(zip(names, colors, strict=True))


def read_image(path: Path) -> told.Json:
    found = BioImage(path, reader=bioio_ome_zarr.Reader)
    reader = found.reader
    dims = reader.dims.order
    levels = []
    for number in found.resolution_levels:
        found.set_resolution_level(number)
        scale = [getattr(found.scale, dim) for dim in dims]
        levels.append(told.level(reader.xarray_dask_data.values, scale, None))
    properties = found.dimension_properties
    units = [(dim.lower(), getattr(properties, dim).unit) for dim in dims]
    axes = [(name, None if unit is None else str(unit)) for name, unit in units]
    return told.image(axes, levels, _channels(found))


told.tell(read_image, lambda path: told.by_fields(path, read_image))
