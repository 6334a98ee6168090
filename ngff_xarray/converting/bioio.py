"""CZI, LIF, ND2 and what else bioio's plugins read, where they are installed."""

from __future__ import annotations

import re
from functools import partial
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any

import xarray as xr

from ngff_xarray.converting import omexml
from ngff_xarray.converting.found import Found, Original, Scan, Size
from ngff_xarray.converting.reader import DeclinedError, Input, Options
from ngff_xarray.converting.selecting import selected
from ngff_xarray.errors import MissingDependencyError, StoreError
from ngff_xarray.model import Channel
from ngff_xarray.text import printable

NAME = "CZI, LIF, ND2, … by bioio"
EXTRA = "bioio"
USES = frozenset({"series"})

_PLUGINS = {
    ".czi": "bioio-czi",
    ".lif": "bioio-lif",
    ".nd2": "bioio-nd2",
    ".sldy": "bioio-sldy",
    ".dv": "bioio-dv",
    ".r3d": "bioio-dv",
}
ENDINGS = tuple(_PLUGINS)
_ORDER = "tczyx"


def claims(source: Input) -> bool:
    """Tell whether this is a file of a format that bioio has a plugin for, or has one installed."""
    known = source.ends(*_PLUGINS)
    return source.is_file and (known or find_spec("bioio") is not None)


def read(source: Input, options: Options) -> Found:
    """Return the images of a file."""
    plugin = next((name for ending, name in _PLUGINS.items() if source.ends(ending)), "bioio")
    if find_spec("bioio") is None:
        raise MissingDependencyError("bioio", EXTRA, f"reading {source.name}")
    known = {point.value.partition(".")[0] for point in entry_points(group="bioio.readers")}
    if not known or (plugin != "bioio" and plugin.replace("-", "_") not in known):
        raise MissingDependencyError(plugin, EXTRA, f"reading {source.name}")
    from bioio import BioImage
    from bioio_base.exceptions import UnsupportedFileFormatError

    try:
        image = BioImage(source.text)
        scenes = list(image.scenes)
        reader = type(image.reader).__module__.partition(".")[0]
    except UnsupportedFileFormatError as error:
        raise DeclinedError("no plugin of bioio reads it") from error
    except Exception as error:  # whatever its plugins raise
        raise StoreError(f"{source.name}: cannot be read: {printable(error, 300)}") from error
    several = len(scenes) > 1
    described = {i: partial(_scan, source, scene, several) for i, scene in enumerate(scenes)}
    images, layout = selected(described, dict(enumerate(scenes)), options.series)
    return Found(f"{reader} of bioio", images, layout, _original(image))


def _original(image: Any) -> Original | None:
    """Return the metadata of a file as text: XML, where they are a tree of elements."""
    from xml.etree import ElementTree

    try:
        found = image.metadata
    except Exception:  # plugins have their own ways to fail, and pixels count more
        return None
    if hasattr(found, "tag"):
        return Original("XML", ElementTree.tostring(found, encoding="unicode"))
    if hasattr(found, "to_xml"):
        return Original("OME-XML", found.to_xml())
    return Original(type(found).__name__, str(found)) if found else None


def _scan(source: Input, scene: str, several: bool) -> Scan:
    from bioio import BioImage

    try:
        image = BioImage(source.text)
        image.set_scene(scene)
        pixels: xr.DataArray = image.xarray_dask_data
        sizes = _sizes(image)
        names = [str(name) for name in image.channel_names or ()]
    except Exception as error:  # whatever its plugins raise
        raise StoreError(f"{source.name}: cannot be read: {printable(error, 300)}") from error
    samples = "S" in pixels.dims
    if samples:
        pixels = _flat(pixels)
    axes = [str(dim) for dim in pixels.dims if pixels.sizes[dim] > 1 or str(dim) in "CYX"]
    pixels = pixels.isel({dim: 0 for dim in pixels.dims if str(dim) not in axes}, drop=True)
    order = [axis.upper() for axis in _ORDER if axis.upper() in axes]
    pixels = pixels.transpose(*[axis for axis in axes if axis not in order], *order)
    if samples:
        channels = omexml.colored() if pixels.sizes.get("C") == 3 else []
    else:
        channels = [Channel(re.sub(r"^Channel:(\d+:)?", "", name) or name) for name in names]
    lower = [str(dim).lower() for dim in pixels.dims]
    return Scan(
        axes=lower,
        levels=[pixels.data],
        name=scene if several else source.stem,
        sizes={axis: size for axis, size in sizes.items() if axis in lower},
        channels=channels if len(channels) == pixels.sizes.get("C", 1) else (),
        dropped=["colours and windows of channels, which bioio does not tell"],
    )


def _flat(pixels: xr.DataArray) -> xr.DataArray:
    """Return samples as channels."""
    whole = pixels.transpose("T", "C", "S", "Z", "Y", "X")
    shape = [whole.sizes["T"], whole.sizes["C"] * whole.sizes["S"], *whole.shape[3:]]
    return xr.DataArray(whole.data.reshape(shape), dims=("T", "C", "Z", "Y", "X"))


def _sizes(image: Any) -> dict[str, Size]:
    """Return the pixel sizes (bioio has them in micrometers) and the time step."""
    found = image.physical_pixel_sizes
    sizes: dict[str, Size] = {
        axis.lower(): (float(size), "micrometer")
        for axis in "ZYX"
        if (size := getattr(found, axis, None)) is not None and size > 0
    }
    try:
        step = image.time_interval
    except Exception:  # not every plugin has it
        step = None
    seconds = step.total_seconds() if hasattr(step, "total_seconds") else step
    if isinstance(seconds, int | float) and seconds > 0:
        sizes["t"] = float(seconds), "second"
    return sizes
