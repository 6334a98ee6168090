"""Channels that are appended: what the image says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from ngff_xarray import image
from ngff_xarray.contrast import Contrast
from ngff_xarray.errors import SelectionError
from ngff_xarray.spec import omero
from ngff_xarray.store import Document, ZarrFormat
from ngff_xarray.text import printable

_SEEN = 2**26  # bytes that windows are found of


def entries(
    pixels: xr.DataArray, finest: xr.DataArray, dim: str, start: int, count: int
) -> list[Document]:
    """Return what is said of channels: what the pixels bring along, or a name and a colour.

    Parameters
    ----------
    pixels
        Of these channels.
    finest
        Of the image.
    dim
        The axis.
    start, count
        Which they are to be.

    Raises
    ------
    SelectionError
        If a name is there already.
    """
    known = image.channel_names(finest)
    before = (known or [str(i) for i in range(start)])[:start]
    names = [str(start + i) for i in range(count)]
    coordinate = pixels.coords.get(dim)
    if coordinate is not None and coordinate.size == count and coordinate.dtype.kind in "OTU":
        names = [str(name) for name in np.atleast_1d(coordinate.values).tolist()]
    twice = [name for name in names if name in before] or _repeated(names)
    if twice:
        raise SelectionError(
            f"there is a channel {printable(twice[0], 80)!r} already: give the new one another name"
        )
    own = image.ome(pixels).get("omero")
    brought = (
        dict(zip(omero.by_name(own), own["channels"], strict=True)) if isinstance(own, dict) else {}
    )
    chosen = omero.made([*before, *names], finest.dtype)["channels"][start:]
    return [
        dict(brought[name]) if name in brought else {**plain, "window": None}
        for name, plain in zip(names, chosen, strict=True)
    ]


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for i, name in enumerate(names) if name in names[:i]]


def with_windows(said: Sequence[Document], levels: Sequence[Any], axis: int) -> list[Document]:
    """Return entries with the ranges that channels are best shown in, where none is said.

    Parameters
    ----------
    said
        The entries.
    levels
        The pixels of these channels at each level, the finest first; read when they are asked for.
    axis
        That of the channels.
    """
    if all(entry.get("window") is not None for entry in said):
        return list(said)
    small = [level for level in levels if level.nbytes <= _SEEN] or levels[-1:]
    pixels = np.asarray(small[0].values)
    contrast = Contrast(pixels.shape, axis)
    contrast.add((0,) * pixels.ndim, pixels)
    return [
        entry if entry.get("window") is not None else {**entry, "window": window}
        for entry, window in zip(said, contrast.windows(), strict=True)
    ]


def appended(
    attributes: Document, zarr_format: ZarrFormat, start: int, said: Sequence[Document], dtype: Any
) -> Document:
    """Return the attributes of an image whose channels go on.

    Parameters
    ----------
    attributes
        Those that it has.
    zarr_format
        That of the store.
    start
        How many channels it had.
    said
        What is said of those that come.
    dtype
        That of the pixels.
    """
    inner = attributes["ome"] if zarr_format == 3 else attributes
    stored = inner.get("omero")
    document = stored if isinstance(stored, dict) else {}
    known = document.get("channels")
    known = list(known)[:start] if isinstance(known, list) else []
    missing = omero.made([str(i) for i in range(start)], np.dtype(dtype))["channels"][len(known) :]
    changed = {**document, "channels": [*known, *missing, *said]}
    if zarr_format == 3:
        return {**attributes, "ome": {**inner, "omero": changed}}
    return {**attributes, "omero": changed}
