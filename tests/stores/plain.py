"""Zarr stores without OME metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr

from stores.groups import quiet_consolidation


def write_plain(path: Path, zarr_format: Literal[2, 3]) -> Path:
    """Path of a consolidated store without OME metadata, written by `xarray.DataTree.to_zarr`.

    The root holds ``temperature`` (time, lat, lon), packed as 16-bit integers, with CF
    attributes; the group ``sub`` holds ``rainfall`` (station).
    """
    rng = np.random.default_rng(0)
    time = np.datetime64("2001-01-01", "ns") + np.arange(4) * np.timedelta64(1, "D")
    climate = xr.Dataset(
        {"temperature": (("time", "lat", "lon"), 280 + rng.integers(0, 200, (4, 6, 8)) / 10)},
        coords={
            "time": time,
            "lat": ("lat", np.linspace(-75, 75, 6), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(0, 315, 8), {"units": "degrees_east"}),
        },
        attrs={"Conventions": "CF-1.11", "title": "climate"},
    )
    climate["temperature"].attrs = {"standard_name": "air_temperature", "units": "K"}
    packing = {"dtype": "int16", "scale_factor": 0.1, "add_offset": 280.0, "_FillValue": -32768}
    climate["temperature"].encoding = packing
    climate["time"].encoding = {"units": "days since 2000-01-01", "dtype": "int64"}
    stations = xr.Dataset(
        {"rainfall": ("station", rng.random(5), {"units": "mm"})},
        coords={"station": np.arange(5)},
    )
    tree = xr.DataTree.from_dict({"/": climate, "/sub": stations})
    with quiet_consolidation():
        tree.to_zarr(path, zarr_format=zarr_format)
    return path
