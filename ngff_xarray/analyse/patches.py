"""Patches: many small parts of an image, for training and for predicting part by part."""

from __future__ import annotations

import math
import operator
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import geometry, image, ops, pyramid, units
from ngff_xarray.analyse import places
from ngff_xarray.analyse.applying import chosen
from ngff_xarray.analyse.measuring import label_levels
from ngff_xarray.analyse.places import BY, Mask, Pad, Starts
from ngff_xarray.analyse.sweeping import fitting, label_array, pixels_at, taken
from ngff_xarray.boxes import Box
from ngff_xarray.errors import SelectionError, UnsupportedError
from ngff_xarray.image import Obj
from ngff_xarray.pyramid.sources import Read, processors
from ngff_xarray.text import printable

Pads = tuple[tuple[int, int], ...]

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
    source = _Source.of(array, sizes, pad, _label_sources(obj, labels, array, room), room)
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


def _starts(obj: Obj, source: _Source, overlap: Any, where: Any, share: float) -> Starts:
    """Return where the patches begin that are wanted."""
    if not 0 <= share <= 1:
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


def _kept(starts: Starts, source: _Source, mask: Mask, share: float) -> Starts:
    """Return those places that a mask covers enough of."""
    keep = np.zeros(len(starts), bool)
    for i, start in enumerate(starts):
        covered, has_any = mask.share(source.inside(start)[0])
        keep[i] = has_any and covered >= share - 1e-9
    return starts[keep]


# ---- labels below patches ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Labels:
    """A label image, and which of its pixels holds the centre of each pixel of an image.

    Parameters
    ----------
    source
        Its pixels.
    at
        By axis of it: an index for each pixel of the image along that axis, -1 for none; None for
        the only pixel.
    order
        The axes of the image.
    """

    source: xr.Variable
    at: Mapping[str, NDArray[np.intp] | None]
    order: tuple[str, ...]

    @classmethod
    def of(cls, labels: xr.DataArray, array: xr.DataArray, name: str) -> _Labels:
        """Return those that lie below an image."""
        dims = places.axes_of(array)
        other = [str(d) for d in labels.dims if d not in dims]
        for dim in other:
            if labels.sizes[dim] > 1:
                raise SelectionError(
                    f"labels: {printable(name, 80)!r} has {labels.sizes[dim]} pixels along {dim}, "
                    f"an axis that patches have no place along; they have {', '.join(dims)}"
                )
        labels = taken(labels, dict.fromkeys(other, 0)) if other else labels
        at = {
            str(dim): pixels_at(labels[dim], array[dim])
            if labels.sizes[dim] > 1 or array.sizes[dim] == 1
            else None
            for dim in labels.dims
        }
        variable = labels.variable
        source = variable if variable.chunks is not None else pyramid.bare(variable)
        return cls(source, at, tuple(dims))

    def values(self, read: Read, box: Box) -> NDArray[Any]:
        """Return the labels in a box of the image, along its axes but that of channels."""
        shape = [side.stop - side.start for side in box]
        sides, picked = [], []
        outside: list[tuple[int, NDArray[np.bool_]]] = []
        for dim in map(str, self.source.dims):
            axis = self.order.index(dim)
            known = self.at[dim]
            which = np.zeros(shape[axis], np.intp) if known is None else known[box[axis]]
            has = which >= 0
            if not has.any():
                return np.zeros(shape, self.source.dtype)
            first, last = int(np.min(which[has])), int(np.max(which[has]))
            sides.append(slice(first, last + 1))
            picked.append(np.where(has, which - first, 0))
            if not has.all():
                outside.append((axis, ~has))
        found = read(tuple(sides))[np.ix_(*picked)] if picked else read(())
        own = [self.order.index(str(dim)) for dim in self.source.dims]
        found = found.transpose(np.argsort(own))
        found = found.reshape([n if axis in own else 1 for axis, n in enumerate(shape)])
        found = np.broadcast_to(found, shape).copy()
        for axis, gone in outside:
            key: Any = (*(slice(None),) * axis, gone)
            found[key] = 0
        return found


def _label_sources(
    obj: Obj, labels: Any, array: xr.DataArray, memory: int
) -> dict[str, _Labels] | _Labels | None:
    """Return the label images that are asked for: one, or several by name."""
    if labels is None:
        return None
    names = [labels] if isinstance(labels, str) else list(labels)
    found = {}
    for name in names:
        levels, _ = label_levels(obj, name)
        found[name] = _Labels.of(label_array(fitting(levels, array)), array, name)
    return found[labels] if isinstance(labels, str) else found


# ---- reading -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """What is read for a patch.

    Parameters
    ----------
    box
        Pixels of the image.
    pads
        How many zeros it gets around them.
    picked
        Which of them it has along axes, where they are reflected.
    """

    box: Box
    pads: Pads
    picked: Mapping[str, NDArray[np.int64]]


def _reflected(side: slice, n: int) -> NDArray[np.int64]:
    """Return which of n pixels are at places that may be beyond them.

    Examples
    --------
    >>> _reflected(slice(-2, 5), 3)
    array([1, 0, 0, 1, 2, 2, 1])
    """
    at = np.arange(side.start, side.stop) % (2 * n)
    found: NDArray[np.int64] = np.minimum(at, 2 * n - 1 - at)
    return found


@dataclass(frozen=True)
class _Source:
    """What patches are read of. Other processes get it pickled.

    Parameters
    ----------
    pixels
        Of the level.
    coords, attrs, name
        What it says.
    sizes
        How many pixels a patch has along the axes that it keeps.
    pad
        What it has beyond the ends of the image.
    labels
        One label image, several by name, or none.
    memory
        How many bytes of chunks are kept.
    """

    pixels: xr.Variable
    coords: xr.Dataset
    attrs: Mapping[Any, Any]
    name: Any
    sizes: Mapping[str, int]
    pad: Pad
    labels: Mapping[str, _Labels] | _Labels | None
    memory: int
    here: dict[int, Any] = field(default_factory=dict, repr=False)
    """What a process has opened: one that was forked has to open it again."""

    @classmethod
    def of(
        cls,
        array: xr.DataArray,
        sizes: Mapping[str, int],
        pad: Pad,
        labels: Mapping[str, _Labels] | _Labels | None,
        memory: int,
    ) -> _Source:
        """Return what is read of a level."""
        variable = array.variable
        pixels = variable if variable.chunks is not None else pyramid.bare(variable)
        coords = array.coords.to_dataset()
        return cls(pixels, coords, array.attrs, array.name, sizes, pad, labels, memory)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "here": {}}

    @property
    def array(self) -> xr.DataArray:
        """The level."""
        found = xr.DataArray(self.pixels, self.coords.coords, attrs=self.attrs, name=self.name)
        found.encoding = dict(self.pixels.encoding)
        return found

    @cached_property
    def dims(self) -> tuple[str, ...]:
        """The axes that patches have a place along."""
        return tuple(places.axes_of(self.array))

    @cached_property
    def channel_dim(self) -> str | None:
        """The axis of channels."""
        return image.channel_dim(self.array)

    @property
    def patch_dims(self) -> tuple[str, ...]:
        """The axes of a patch."""
        return tuple(
            str(d) for d in self.pixels.dims if d == self.channel_dim or str(d) in self.sizes
        )

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """Its pixels along them."""
        return tuple(self.sizes.get(dim, self.pixels.sizes[dim]) for dim in self.patch_dims)

    def box(self, start: Sequence[int]) -> Box:
        """Return the pixels of a patch, also those beyond the ends of the image."""
        return tuple(
            slice(int(a), int(a) + self.sizes.get(dim, 1))
            for dim, a in zip(self.dims, start, strict=True)
        )

    def inside(self, start: Sequence[int]) -> tuple[Box, Pads]:
        """Return the pixels of a patch that the image has, and how many it lacks at each side."""
        box, pads = [], []
        for dim, side in zip(self.dims, self.box(start), strict=True):
            n = self.pixels.sizes[dim]
            first, last = max(0, side.start), min(n, side.stop)
            box.append(slice(first, last))
            pads.append((first - side.start, side.stop - last))
        return tuple(box), tuple(pads)

    def read(self, number: int, start: Sequence[int]) -> Patch:
        """Return a patch."""
        place = self._place(start)
        read, of_labels = self._readers()
        own = dict(zip(self.dims, place.box, strict=True))
        whole = slice(0, self.pixels.sizes.get(self.channel_dim, 1))
        dims = tuple(map(str, self.pixels.dims))
        pixels = self._finished(read(tuple(own.get(dim, whole) for dim in dims)), place, dims)

        def below(labels: _Labels, reader: Read) -> NDArray[Any]:
            return self._finished(labels.values(reader, place.box), place, self.dims)

        labels: Any = None
        if isinstance(self.labels, _Labels):
            labels = below(self.labels, of_labels[0])
        elif self.labels is not None:
            labels = dict(
                zip(self.labels, map(below, self.labels.values(), of_labels), strict=True)
            )
        return Patch(number, tuple(int(a) for a in start), pixels, labels, self)

    def _place(self, start: Sequence[int]) -> _Place:
        """Return what to read for a patch."""
        box, pads = self.inside(start)
        if self.pad != "reflect" or not any(map(any, pads)):
            return _Place(box, pads, {})
        picked = {
            dim: _reflected(side, self.pixels.sizes[dim])
            for dim, side in zip(self.dims, self.box(start), strict=True)
        }
        box = tuple(slice(int(np.min(at)), int(np.max(at)) + 1) for at in picked.values())
        first = (side.start for side in box)
        return _Place(
            box, (), {d: at - a for (d, at), a in zip(picked.items(), first, strict=True)}
        )

    def _finished(self, pixels: NDArray[Any], place: _Place, dims: Sequence[str]) -> NDArray[Any]:
        """Return pixels with those beyond the ends, without the axes that patches lack; a copy."""
        around = dict(zip(self.dims, place.pads, strict=False))
        if any(map(any, place.pads)):
            pixels = np.pad(pixels, [around.get(dim, (0, 0)) for dim in dims])
        for axis, dim in enumerate(dims):
            if dim in place.picked:
                pixels = np.take(pixels, place.picked[dim], axis)
        keep = tuple(
            slice(None) if dim in self.sizes or dim == self.channel_dim else 0 for dim in dims
        )
        return np.array(pixels[keep], pixels.dtype.newbyteorder("="), order="C")

    def _readers(self) -> tuple[Read, list[Read]]:
        found = self.here.get(os.getpid())
        if found is None:
            labels = self.labels
            every = [labels] if isinstance(labels, _Labels) else list((labels or {}).values())
            keep, threads = self.memory // (1 + len(every)), 1
            found = (
                pyramid.reader(self.pixels, threads, keep=keep, by=BY),
                [pyramid.reader(each.source, threads, keep=keep, by=BY) for each in every],
            )
            found = self.here.setdefault(os.getpid(), found)
        return found  # type: ignore[no-any-return]  # `here` holds anything

    def region(self, start: Sequence[int]) -> dict[str, Any]:
        """Return where a patch is: a slice along each axis, a position along those it lacks."""
        here = self.placed(start)
        found: dict[str, Any] = {}
        for dim in self.dims:
            coordinate = here.coords[dim]
            if dim in self.sizes:
                ends = np.sort(geometry.edges(coordinate))[[0, -1]]
                found[dim] = slice(float(ends[0]), float(ends[1]))
            else:
                found[dim] = float(coordinate)
        return found

    def placed(self, start: Sequence[int]) -> xr.Dataset:
        """Return the coordinates of a patch."""
        box, pads = self.inside(start)
        own = {
            dim: side if dim in self.sizes else side.start
            for dim, side in zip(self.dims, box, strict=True)
        }
        here = self.coords.isel(own, missing_dims="ignore")
        beyond = {dim for dim, pad in zip(self.dims, pads, strict=True) if any(pad)}
        if not beyond:
            return here
        found = {name: c.variable for name, c in here.coords.items() if not beyond & set(c.dims)}
        for dim, side in zip(self.dims, self.box(start), strict=True):
            if dim in beyond:
                found[dim] = _going_on(self.coords.coords[dim], side)
        return xr.Dataset(coords=found)


def _going_on(coordinate: xr.DataArray, side: slice) -> xr.Variable:
    """Return a coordinate at pixels that may be beyond its ends, with the same step."""
    values, last = coordinate.values, coordinate.size - 1
    step = (values[-1] - values[0]) / last if last else geometry.pixel_size(coordinate) or 1.0
    at = np.arange(side.start, side.stop)
    nearest = np.clip(at, 0, last)
    return xr.Variable(coordinate.dims, values[nearest] + step * (at - nearest), coordinate.attrs)


@dataclass(frozen=True, eq=False)
class Patch(Mapping[str, Any]):
    """A patch of an image: its pixels, and where they are.

    As a mapping it has ``"image"``, ``"labels"`` if they were asked for, and ``"number"``: arrays
    of numpy, which are its own.

    Parameters
    ----------
    number
        Which of the patches it is, in their order without shuffling.
    start
        Its first pixel along the axes of the level but that of channels; below 0 where it begins
        before the image.
    pixels
        Its pixels: an array of numpy.
    label_pixels
        Those of its labels: an array, arrays by name, or None.
    """

    number: int
    start: tuple[int, ...]
    pixels: NDArray[Any] = field(repr=False)
    label_pixels: NDArray[Any] | Mapping[str, NDArray[Any]] | None = field(repr=False)
    _source: _Source = field(repr=False)

    def __getitem__(self, key: str) -> Any:
        if key == "image":
            return self.pixels
        if key == "number":
            return self.number
        if key == "labels" and self.label_pixels is not None:
            return self.label_pixels
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(
            ("image", "number") if self.label_pixels is None else ("image", "labels", "number")
        )

    def __len__(self) -> int:
        return 2 if self.label_pixels is None else 3

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.pixels, dtype, copy=copy)

    @property
    def box(self) -> dict[str, int | slice]:
        """Its pixels, as ``isel`` takes them: axis -> slice, or a number along axes that it lacks.

        Padded ones may begin below 0, or end beyond the image.
        """
        box = self._source.box(self.start)
        return {
            dim: side if dim in self._source.sizes else side.start
            for dim, side in zip(self._source.dims, box, strict=True)
        }

    @cached_property
    def _coords(self) -> xr.Dataset:
        return self._source.placed(self.start)

    @property
    def region(self) -> dict[str, Any]:
        """Where it is, as ``tree.ngff.sel(**region)`` takes it, in the units of the axes.

        A slice along each axis, from edge to edge; a position along those that it lacks.
        """
        return self._source.region(self.start)

    @property
    def array(self) -> xr.DataArray:
        """Its pixels, with coordinates."""
        source = self._source
        return xr.DataArray(
            self.pixels, self._coords.coords, source.patch_dims, source.name, dict(source.attrs)
        )

    @property
    def labels(self) -> Any:
        """Its labels, with coordinates: a DataArray, or several by name; None if not asked for."""
        if self.label_pixels is None:
            return None
        if isinstance(self.label_pixels, Mapping):
            return {name: self._labels(each) for name, each in self.label_pixels.items()}
        return self._labels(self.label_pixels)

    def _labels(self, values: NDArray[Any]) -> xr.DataArray:
        channel = self._source.channel_dim
        dims = [dim for dim in self._source.patch_dims if dim != channel]
        coords = {
            name: coordinate
            for name, coordinate in self._coords.coords.items()
            if set(coordinate.dims) <= set(dims) and coordinate.attrs.get("axis_type") != "channel"
        }
        return xr.DataArray(values, coords, dims, "labels")


class Patches(Sequence[Patch]):
    """Patches of an image, in some order: see `patches`.

    ``patches[3]`` is a `Patch`, ``patches[:100]`` are Patches, and iterating reads ahead. They can
    be pickled; each process opens the store by itself.

    Parameters
    ----------
    source, starts
        What they are read of, and where they begin.
    numbers
        Which of them these are, in their order.
    prefetch
        How many are read ahead when one iterates.
    image
        The image; unknown in another process.
    """

    def __init__(
        self,
        source: _Source,
        starts: Starts,
        numbers: NDArray[np.int64],
        prefetch: int,
        image: Obj | None,
    ) -> None:
        self._source, self._starts, self._numbers = source, starts, numbers
        self._prefetch, self.image = prefetch, image

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "image": None}

    def __repr__(self) -> str:
        sizes = zip(self._source.patch_dims, self._source.patch_shape, strict=True)
        return f"<Patches: {len(self)} of {', '.join(f'{dim}: {n}' for dim, n in sizes)}>"

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Patch: ...
    @overload
    def __getitem__(self, index: slice) -> Patches: ...
    def __getitem__(self, index: int | slice) -> Patch | Patches:
        if isinstance(index, slice):
            return self._with(self._numbers[index])
        return self._read(int(self._numbers[operator.index(index)]))

    def __iter__(self) -> Iterator[Patch]:
        return self._ahead() if self._prefetch else self._one_by_one()

    def shuffled(self, seed: int) -> Patches:
        """Return them in a random order in which chunks are read few times: see `patches`.

        ``for epoch in range(10): for patch in patches.shuffled(epoch): …``
        """
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise SelectionError(f"shuffle: expected a seed, as 0, found {printable(seed, 40)!r}")
        numbers = np.sort(self._numbers)
        source = self._source
        order = places.shuffled(
            source.array, source.sizes, self._starts[numbers], source.memory, int(seed)
        )
        return self._with(numbers[order])

    def sorted(self) -> Patches:
        """Return them in their order without shuffling."""
        return self._with(np.sort(self._numbers))

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The number of each patch, in their order."""
        return self._numbers.copy()

    @property
    def dims(self) -> tuple[str, ...]:
        """The axes of a patch."""
        return self._source.patch_dims

    @property
    def shape(self) -> tuple[int, ...]:
        """How many pixels a patch has along them."""
        return self._source.patch_shape

    def _with(self, numbers: NDArray[np.int64]) -> Patches:
        return Patches(self._source, self._starts, numbers, self._prefetch, self.image)

    def _read(self, number: int) -> Patch:
        return self._source.read(number, self._starts[number].tolist())

    def _one_by_one(self) -> Iterator[Patch]:
        for number in self._numbers.tolist():
            yield self._read(number)

    def _several(self, numbers: list[int]) -> list[Patch]:
        return [self._read(number) for number in numbers]

    def _ahead(self) -> Iterator[Patch]:
        """Yield patches that threads read, a few at a time, until nobody listens."""
        self._source._readers()  # once, and not by each thread
        threads = min(self._prefetch, 2 * processors())
        each = max(1, self._prefetch // (2 * threads))  # a thread is called for several
        running: deque[Future[list[Patch]]] = deque()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="ngff-patches")
        try:
            for first in range(0, len(self), each):
                running.append(
                    pool.submit(self._several, self._numbers[first : first + each].tolist())
                )
                if len(running) * each >= self._prefetch:
                    yield from running.popleft().result()
            while running:
                yield from running.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
