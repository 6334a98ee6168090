"""Patches: many small parts of an image, for training and for predicting part by part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from ngff_xarray import image, ops, units
from ngff_xarray.analyse import places
from ngff_xarray.analyse.applying import chosen
from ngff_xarray.analyse.below import fitting
from ngff_xarray.analyse.label_arrays import label_array
from ngff_xarray.analyse.measuring import label_levels
from ngff_xarray.analyse.patch_labels import PatchLabels
from ngff_xarray.analyse.patch_sequence import Patches
from ngff_xarray.analyse.patch_source import PatchSource
from ngff_xarray.analyse.places import Mask, Pad, Starts
from ngff_xarray.errors import SelectionError, UnsupportedError
from ngff_xarray.image import Obj
from ngff_xarray.text import printable

MEMORY = "256 MB"
_AHEAD, _AHEAD_BYTES = 64, 2**25  # how many patches are read ahead, if they are no more than that


def patches(
    obj: Obj,
    size: Any,
    *,
    overlap: Any = None,
    level: object = 0,
    where: Any = None,
    share: float = 0.0,
    channels: str | Sequence[str] | None = None,
    labels: str | Sequence[str] | None = None,
    pad: Pad = None,
    shuffle: int | None = None,
    prefetch: int | None = None,
    memory: int | str = MEMORY,
) -> Patches:
    """Return the patches of an image: a sequence, of which each is read when it is asked for.

    A patch has all its channels. Along axes that ``size`` does not name it is one pixel, and its
    array lacks them, as if that pixel had been selected: ``{"y": "64 px", "x": "64 px"}`` of a
    stack gives pictures of each plane, and ``"64 px"`` cubes.

    They come one chunk of the store after another, and so, or ``shuffled``, each chunk is read few
    times. A ``torch.utils.data.DataLoader`` takes them as they are: see the notes.

    Parameters
    ----------
    obj
        An image, or a region of one.
    size
        How large a patch is: a length for all axes of space that have several pixels, or a dict by
        axis, with None for all of an axis. Lengths are ``"20 µm"``, a number in the axis's unit, or
        ``"64 px"``; they are rounded up to whole pixels.
    overlap
        How much neighbours have in common: a share of the size (0.25 or ``"25 %"``), a length with
        its unit (``"5 µm"``, ``"16 px"``), or a dict of these by axis.
    level
        Of which level: its number, or a pixel size as in ``"0.5 µm"``.
    where
        Which patches: those where a mask is set (a DataArray of any pixel size, placed by its
        coordinates) or a label image has objects (its name); or those centred on the points of a
        DataFrame, in the order of its rows: its columns (or levels of its index) are called as the
        axes or, as those of `measure`, ``centroid_x``; in the axes' units or those that its
        ``attrs["units"]`` says. Of an even number of pixels, the centre is the first one of the
        second half.
    share
        How much of a patch must be set, 0 to 1; by default one pixel.
    channels
        Which channels: a name, and patches have no axis of channels, or several.
    labels
        The names of label images whose pixels patches have as well. Each pixel of a patch gets the
        label of the pixel that holds its centre, 0 where there is none. Of the levels of a label
        image the coarsest is taken whose pixels are no larger than those of the patches, or the
        finest; one without an axis, or with one pixel along it, holds for all of that.
    pad
        What is beyond the ends of the image: ``"reflect"``, the image reflected, or ``"constant"``,
        zeros. By default nothing: the last patches along an axis, and those around points near an
        end, are shifted inwards.
    shuffle
        A seed, for a random order in which chunks are read few times: neighbouring chunks are a
        group, groups come in random order, and the patches of four at a time are mixed. The same
        seed gives the same order; for another one see `Patches.shuffled`.
    prefetch
        How many patches are read ahead by threads when one iterates, 0 for none; by default 64, or
        fewer if those are more than 32 MB.
    memory
        How many bytes of chunks are kept, in each process. More memory is a better mixture, too.

    Returns
    -------
    Patches

    Raises
    ------
    SelectionError
        If there is no such level, channel, axis or label image, a patch is larger than the image,
        the overlap not less than the patch, or no patch is left.
    UnitError
        If a length is none, or a unit cannot be converted.

    Notes
    -----
    A DataLoader calls ``patches[i]``, in its workers, to which they go pickled. A patch is also a
    mapping of arrays, of which its ``default_collate`` makes batches::

        for epoch in range(10):
            for batch in DataLoader(patches.shuffled(epoch), batch_size=16, num_workers=2):
                batch["image"], batch["labels"], batch["number"]

    Leave its own ``shuffle`` off: that would read each chunk for nearly every patch. Of pixels in
    memory each worker gets a copy. Patches of several images are a ``ConcatDataset``.

    Examples
    --------
    >>> import ngff_xarray
    >>> tree = xr.open_datatree(ngff_xarray.sample("cell"))
    >>> found = patches(tree, "15 µm", overlap=0.25, channels="phase", where="cell")
    >>> patch = found[0]
    >>> len(found), patch.pixels.shape, patch.array.x.attrs["units"]
    (6, (141, 141), 'micrometer')
    >>> tree.ngff.sel(**patch.region, level=0).sizes["x"]
    141
    """
    _check_pad(pad)
    given = image.levels(obj)
    number = ops.which_level(given, level)
    array = _with_coordinates(chosen(obj, number, channels))
    sizes = places.patch_sizes(array, size, pad)
    room = units.byte_count(memory)
    source = PatchSource.of(array, sizes, pad, _label_sources(obj, labels, array, room), room)
    starts = _starts(obj, source, overlap, where, share)
    if prefetch is None:
        patch = math.prod(source.patch_shape) * array.dtype.itemsize
        prefetch = max(4, min(_AHEAD, _AHEAD_BYTES // patch))
    if not isinstance(prefetch, int) or prefetch < 0:
        raise SelectionError(f"prefetch: expected at least 0, found {printable(prefetch, 40)!r}")
    found = Patches(source, starts, np.arange(len(starts)), prefetch, obj)
    return found if shuffle is None else found.shuffled(shuffle)


def _check_pad(pad: Any) -> None:
    if pad is not None and pad not in ("reflect", "constant"):
        raise SelectionError(f"pad={printable(pad, 40)!r}: expected 'reflect', 'constant' or None")


def _with_coordinates(array: xr.DataArray) -> xr.DataArray:
    """Return an array whose patches know where they are."""
    missing = [dim for dim in places.axes_of(array) if dim not in array.coords]
    return array.assign_coords({dim: array[dim] for dim in missing}) if missing else array


def _starts(obj: Obj, source: PatchSource, overlap: Any, where: Any, share: float) -> Starts:
    """Return where the patches begin that are wanted."""
    if not isinstance(share, int | float | np.number) or not 0 <= share <= 1:
        raise SelectionError(f"share: expected 0 to 1, found {printable(share, 40)!r}")
    array, sizes, pad = source.array, source.sizes, source.pad
    if hasattr(where, "columns") and hasattr(where, "index"):
        if overlap is not None:
            raise SelectionError("overlap: patches around points lie where these are: leave it out")
        starts = places.around(array, sizes, where, pad)
        what = "the table has no rows"
    else:
        starts = places.grid(array, sizes, places.overlaps(array, sizes, overlap), pad)
        if where is not None:
            starts = _kept(starts, source, _mask(obj, where, array, source.memory), share)
        what = "the mask is set nowhere, or too little of each patch" + (
            f": give a smaller share= than {share:g}" if share else ""
        )
    if not len(starts):
        raise SelectionError(f"where: no patch is left: {what}")
    return starts


def _mask(obj: Obj, where: Any, array: xr.DataArray, memory: int) -> Mask:
    if isinstance(where, str):
        levels, _ = label_levels(obj, where)
        return Mask(label_array(fitting(levels, array)), array, memory)
    if not isinstance(where, xr.DataArray):
        raise SelectionError(
            "where: expected a mask as a DataArray, a pandas.DataFrame of points or the name of a "
            f"label image, found a {type(where).__name__}"
        )
    if where.dtype.kind != "b":
        raise UnsupportedError(
            f"where: the mask has the dtype {where.dtype}, expected booleans: compare it, as with "
            "mask > 0"
        )
    return Mask(where, array, memory)


def _kept(starts: Starts, source: PatchSource, mask: Mask, share: float) -> Starts:
    """Return those places that a mask covers enough of."""
    keep = np.zeros(len(starts), bool)
    for i, start in enumerate(starts):
        covered, has_any = mask.share(source.inside(start)[0])
        keep[i] = has_any and covered >= share - 1e-9
    return starts[keep]


def _label_sources(
    obj: Obj, labels: Any, array: xr.DataArray, memory: int
) -> dict[str, PatchLabels] | PatchLabels | None:
    """Return the label images that are asked for: one, or several by name."""
    if labels is None:
        return None
    names = [labels] if isinstance(labels, str) else list(labels)
    found = {}
    for name in names:
        levels, _ = label_levels(obj, name)
        found[name] = PatchLabels.of(label_array(fitting(levels, array)), array, name)
    return found[labels] if isinstance(labels, str) else found
