"""Objects of a label image measured: their sizes, places, intensities and shapes, as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import geometry, image, ops, transforms, units
from ngff_xarray.analyse import keeping
from ngff_xarray.analyse.accumulating import Accumulator, Sums, Values, measured, together
from ngff_xarray.analyse.below import Below, fitting
from ngff_xarray.analyse.label_arrays import arranged, extended_dims, label_array, taken
from ngff_xarray.analyse.object_boxes import Boxes, shape_cells
from ngff_xarray.analyse.running import Crew
from ngff_xarray.analyse.shapes import Shapes
from ngff_xarray.analyse.sweeping import (
    Block,
    Pixels,
    block_sizes,
    crew_for,
    slab_sizes,
    swept,
    working,
)
from ngff_xarray.boxes import Box, count, cut
from ngff_xarray.errors import SelectionError, UnitError, UnsupportedError
from ngff_xarray.image import Obj
from ngff_xarray.labelling.tables import VALUE
from ngff_xarray.model import Channel
from ngff_xarray.progress import progress as progress_bar
from ngff_xarray.text import printable

if TYPE_CHECKING:
    import pandas as pd

Label = str | Obj
Intensities = str | Channel | Sequence[str | Channel] | Obj | None


def measure(
    tree: Obj,
    label: Label,
    intensities: Intensities = None,
    *,
    properties: str | Sequence[str] = (),
    level: object = 0,
    block: Block = None,
    to: Any = None,
    scheduler: Any = None,
    workers: int | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Return the size, place, intensities and shape of every object of a label image.

    Pixels are read once, a block at a time; objects may lie in any number of blocks.

    Parameters
    ----------
    tree
        The image.
    label
        The name of a label image of it; or one as it is, a tree or an array of integers, placed by
        its coordinates. 0 is no object.
    intensities
        The channels to measure in: names, ``"all"`` for every one, None for none; or another image,
        placed by its coordinates, with all its channels. Of its levels the one with the pixel size
        of the labels is taken; if there is none, the next finer one, and at the centre of every
        pixel of the labels its value there counts.
    properties
        Shape measures besides, as scikit-image calls them (``"eccentricity"``, ``"solidity"``,
        ``"perimeter"``, …). They read the objects' boxes again, and need the extra ``analyse``.
        Most need all of an object's box in memory, some of them many times: of an object that is as
        large as the image ask for those that need none (``"extent"``, ``"eccentricity"``,
        ``"orientation"``, the lengths of axes), or for a coarser level.
    level
        Which level of the labels: a number, or a pixel size (``"1 µm"``).
    block
        How many bytes are read for a block (``"64 MB"``, by default), or its pixels along axes.
    to
        Where to write the table as well: ``"properties"`` for those of the label image in its
        store, and of this tree, whose other properties stay; or the path (or URL) of a new file,
        ``.csv`` or ``.parquet``.
    scheduler
        Who does it: ``"threads"``, ``"processes"`` or ``"synchronous"``, or a `distributed.Client`.
        By default the cluster that dask works with, if its workers can have the pixels, or threads.
    workers
        How many blocks are under way at a time; by default one a processor.
    progress
        Whether to show a bar; by default after a second, in a notebook or a terminal.

    Returns
    -------
    pandas.DataFrame
        A row an object. The index is its label (``label-value``), after the coordinate of its
        frame where the labels have several along ``t``. The columns, in world coordinates:

        ``area`` or ``volume`` (of two or three axes of space with more than one pixel), ``pixels``;
        ``centroid_x`` and the box from ``x_min`` to ``x_max``, which are edges of pixels, for each
        of these axes; ``mean_DAPI``, ``std_DAPI``, ``min_DAPI``, ``max_DAPI`` and ``sum_DAPI`` for
        each channel; the shape measures. Pixels that are NaN or lie beyond the image are left out
        of intensities, which are NaN where none is left; ``attrs["issues"]`` says so.
        ``attrs["units"]`` has the unit of each column that has one.

    Raises
    ------
    SelectionError
        If there is no such label image, channel, level or measure, or the axes do not fit.
    UnsupportedError
        If the labels are no integers, or pixels are not evenly spaced.
    UnitError
        If units cannot be converted.
    MissingDependencyError
        If a measure or the table's format needs a package that is not installed.
    StoreError
        If the table is there already or cannot be written, or pixels cannot be read.

    Examples
    --------
    >>> from ngff_xarray import sample
    >>> tree = xr.open_datatree(sample("cell"))
    >>> table = measure(tree, "cell", "phase")
    >>> table[["area", "centroid_x", "mean_phase"]].round(1)
                  area  centroid_x  mean_phase
    label-value
    1            133.0        45.8       180.5
    >>> table.attrs["units"]["area"]
    'micrometer²'
    """
    threads = Crew.of(scheduler, workers).workers
    found, name = labels_of(tree, label, level)
    below = _below(tree, intensities, found, threads)
    plan = _Plan.of(Pixels(found, threads), below, block)
    crew = crew_for(scheduler, workers, plan)
    world = _World.of(found, plan.dims)
    shapes = Shapes.of(properties, world.spacing)
    keep = keeping.target(to, tree, name, by_frame=bool(plan.framed))
    frame = _frame(plan, world, shapes, crew, progress)
    keep(frame)
    return frame


def labels_of(tree: Obj, label: Label, level: object) -> tuple[xr.DataArray, str | None]:
    """Return the pixels of a label image at a level, and its name if it was given by that.

    Raises
    ------
    SelectionError
        If there is none of that name, or no such level.
    UnsupportedError
        If the labels are no integers.
    """
    arrays, name = label_levels(tree, label)
    return arranged(label_array(arrays[ops.which_level(arrays, level)])), name


def label_levels(tree: Obj, label: Label) -> tuple[tuple[xr.DataArray, ...], str | None]:
    """Return all levels of a label image, and its name if it was given by that.

    Raises
    ------
    SelectionError
        If there is none of that name.
    """
    name = label if isinstance(label, str) else None
    if isinstance(label, str):
        known = image.label_images(tree)
        if label not in known:
            have = ", ".join(known) or "none"
            raise SelectionError(
                f"there is no label image {printable(label, 80)!r}; there are: "
                f"{printable(have, 200)}"
            )
        label = known[label]
    if not isinstance(label, Obj):
        raise SelectionError(
            "label: expected the name of a label image, a DataTree or a DataArray; found "
            f"{type(label).__name__}"
        )
    return image.levels(label), name


# ---- which intensities -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Intensities:
    """An image below the labels, and the names of the channels that are measured."""

    below: Below
    names: tuple[str, ...]


def _below(
    tree: Obj, intensities: Intensities, labels: xr.DataArray, threads: int
) -> _Intensities | None:
    """Return what to measure in, at the level that fits the labels."""
    if intensities is None:
        return None
    is_other = isinstance(intensities, Obj)
    source: Obj = intensities if is_other else tree  # type: ignore[assignment]  # not narrowed
    array = fitting(image.levels(source), labels)
    if array.dtype.kind not in "iufb":
        raise UnsupportedError(f"intensities: expected numbers, found pixels of {array.dtype}")
    known = [channel.name for channel in image.channels(array)]
    which = list(range(len(known)))
    if not is_other and (intensities != "all" or "all" in known):
        which = [known.index(name) for name in _named(intensities, known)]
    has_axis = image.channel_dim(array) is not None
    below = Below(array, labels, which if has_axis else None, threads)
    return _Intensities(below, tuple(known[i] for i in which))


def _named(intensities: Any, known: Sequence[str]) -> list[str]:
    several = intensities if isinstance(intensities, list | tuple) else [intensities]
    names = [each.name if isinstance(each, Channel) else each for each in several]
    for name in names:
        if name not in known:
            listed = printable(", ".join(known[:32]), 400)
            raise SelectionError(
                f"intensities: there is no channel {name!r}; the channels are {listed} "
                "('all' means all of them)"
            )
    return list(dict.fromkeys(names))


# ---- going over the pixels ---------------------------------------------------------------------

Place = tuple[int, ...]  # of a frame, by index


@dataclass(frozen=True)
class _Plan:
    """What is gone over, and how. Workers get it pickled.

    Parameters
    ----------
    pixels
        Those of the label image; the axes that objects extend along come last.
    dims
        Those axes.
    below
        What is measured in.
    sizes
        The size of a block along each axis.
    """

    pixels: Pixels
    dims: tuple[str, ...]
    below: _Intensities | None
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, pixels: Pixels, below: _Intensities | None, block: Block) -> _Plan:
        """Return the plan for labels and what is measured in."""
        labels = pixels.array
        dims = extended_dims(labels)
        without = [dim for dim in labels.dims if dim not in dims and not labels.sizes[dim]]
        if without:
            raise SelectionError(f"the labels have no frames along {without[0]}: none to measure")
        pixel_bytes = labels.dtype.itemsize + (below.below.pixel_bytes if below else 0)
        sizes = block_sizes(labels, pixel_bytes, block)
        return cls(pixels, dims, below, sizes)

    @property
    def labels(self) -> xr.DataArray:
        """The label image."""
        return self.pixels.array

    @property
    def others(self) -> tuple[str, ...]:
        """The axes before: objects of one frame have nothing to do with those of another."""
        return tuple(map(str, self.labels.dims[: -len(self.dims)]))

    @property
    def framed(self) -> tuple[str, ...]:
        """Those of them that have several pixels."""
        return tuple(dim for dim in self.others if self.labels.sizes[dim] > 1)

    def sums(self, crew: Crew, progress: bool | None) -> dict[Place, Sums]:
        """Return what is known of the objects of each frame."""
        sizes = [self.labels.sizes[dim] for dim in self.others]
        found = {place: Accumulator() for place in np.ndindex(*sizes)}
        for each in found.values():
            each.add(self._none())
        whole = [slice(0, size) for size in self.labels.shape]
        boxes = cut(whole, self.sizes) if self.labels.size else ()
        with (
            progress_bar("measuring", "B", progress, self.labels.nbytes) as bar,
            working(crew, _parts_of, self) as (call, threads),
        ):

            def work(box: Box) -> list[tuple[Place, Sums]]:
                parts = call(box)
                bar.did(count(box) * self.labels.dtype.itemsize)
                return parts

            for parts in swept(boxes, work, threads, bar.show):
                for place, part in parts:
                    found[place].add(part)
        return {place: each.sums() for place, each in found.items()}

    def _none(self) -> Sums:
        """Return what is known of no objects, in the types of what is known of some."""
        shape = (0,) * len(self.dims)
        channels = [np.zeros(shape, self.below.below.dtype) for _ in self.names]  # type: ignore[union-attr]  # there are no names without
        return measured(np.zeros(shape, self.labels.dtype), channels)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the channels."""
        return () if self.below is None else self.below.names

    def parts(self, box: Box) -> list[tuple[Place, Sums]]:
        """Return what is known of the objects in a box, frame by frame."""
        pixels = self.pixels.read(box)
        if not pixels.any():
            return []
        values: list[NDArray[Any]] = []
        inside = None
        if self.below is not None:
            values, inside = self.below.below.values(box)
        depth = len(self.others)
        first, start = [b.start for b in box[:depth]], [b.start for b in box[depth:]]
        found = []
        for at in np.ndindex(pixels.shape[:depth]):
            part = self._part(
                pixels[at],
                [each[at] for each in values],
                start,
                inside if inside is None else inside[at],
            )
            found.append((tuple(map(sum, zip(first, at, strict=True))), part))
        return found

    def _part(
        self,
        pixels: NDArray[Any],
        values: Sequence[NDArray[Any]],
        start: Sequence[int],
        inside: NDArray[np.bool_] | None,
    ) -> Sums:
        """Return what is known of the objects in a part of a frame."""
        found = []
        for slab in cut([slice(0, n) for n in pixels.shape], slab_sizes(pixels.shape)):
            labels = np.ascontiguousarray(pixels[slab])
            if labels.any():
                at = [a + side.start for a, side in zip(start, slab, strict=True)]
                has = None if inside is None else inside[slab]
                found.append(measured(labels, [each[slab] for each in values], at, has))
        return together(found) if found else self._none()


def _parts_of(plan: _Plan, box: Box) -> list[tuple[Place, Sums]]:
    return plan.parts(box)


# ---- the table ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _World:
    """Where pixels lie in the world, and in which units.

    Parameters
    ----------
    dims
        The axes that objects extend along.
    steps, starts
        The signed size of a pixel and the centre of the first one, along each.
    units
        The unit of each axis that has one.
    """

    dims: tuple[str, ...]
    steps: tuple[float, ...]
    starts: tuple[float, ...]
    units: Mapping[str, str]

    @classmethod
    def of(cls, labels: xr.DataArray, dims: Sequence[str]) -> _World:
        """Return that of labels.

        Raises
        ------
        UnsupportedError
            If pixels are not evenly spaced.
        """
        part = labels.isel({dim: 0 for dim in labels.dims if dim not in dims}, drop=True)
        placed = geometry.placement(part, image.axes(part))
        steps, starts = transforms.scale_and_translation(placed, part.ndim)
        found = {str(dim): geometry.unit(labels[dim]) for dim in labels.dims}
        known = {dim: unit for dim, unit in found.items() if unit is not None}
        return cls(tuple(dims), tuple(map(float, steps)), tuple(map(float, starts)), known)

    @property
    def unit(self) -> str | None:
        """The unit of areas, volumes and shapes: that of the last axis, if all have one."""
        wanted = self.units.get(self.dims[-1])
        try:
            for dim in self.dims:
                if dim not in self.units:
                    return None
                units.factor(self.units[dim], wanted)
        except UnitError:
            return None
        return wanted

    @property
    def spacing(self) -> tuple[float, ...]:
        """The size of a pixel along each axis, in this unit if there is one."""
        unit = self.unit
        return tuple(
            abs(step) * (units.factor(self.units[dim], unit) if unit else 1.0)
            for dim, step in zip(self.dims, self.steps, strict=True)
        )

    @property
    def size_name(self) -> str:
        """What the size of an object is called."""
        return {2: "area", 3: "volume"}.get(len(self.dims), "size")

    @property
    def size_unit(self) -> str | None:
        """The unit of sizes."""
        return (
            None
            if self.unit is None
            else self.unit + {1: "", 2: "²", 3: "³"}.get(len(self.dims), f"^{len(self.dims)}")
        )

    def columns(self, sums: Sums) -> dict[str, NDArray[Any]]:
        """Return the columns of sizes and places."""
        found: dict[str, NDArray[Any]] = {
            self.size_name: sums.pixels * math.prod(self.spacing),
            "pixels": sums.pixels,
        }
        for i, dim in enumerate(self.dims):
            centre = sums.moments[i] / (2 * sums.pixels)
            found[f"centroid_{dim}"] = self.starts[i] + self.steps[i] * centre
        for i, dim in enumerate(self.dims):
            low = self.starts[i] + self.steps[i] * (sums.lows[i] - 0.5)
            high = self.starts[i] + self.steps[i] * (sums.highs[i] + 0.5)
            found[f"{dim}_min"], found[f"{dim}_max"] = np.minimum(low, high), np.maximum(low, high)
        return found

    def column_units(self) -> dict[str, str]:
        """Return the unit of each of these columns that has one, and of those of frames."""
        found = {} if self.size_unit is None else {self.size_name: self.size_unit}
        for dim, unit in self.units.items():
            names = (f"centroid_{dim}", f"{dim}_min", f"{dim}_max") if dim in self.dims else (dim,)
            found |= dict.fromkeys(names, unit)
        return found


def _intensity_columns(name: str, values: Values) -> dict[str, NDArray[Any]]:
    """Return the columns of one channel."""
    has = values.counts > 0

    def known(column: NDArray[Any]) -> NDArray[Any]:
        return column if has.all() else np.where(has, column, np.nan)

    with np.errstate(invalid="ignore"):
        std = np.sqrt(
            np.divide(values.squares, values.counts, out=np.full(has.shape, np.nan), where=has)
        )
    return {
        f"mean_{name}": values.means,
        f"std_{name}": std,
        f"min_{name}": known(values.lows),
        f"max_{name}": known(values.highs),
        f"sum_{name}": known(values.totals),
    }


def _issues(names: Sequence[str], sums: Sequence[Sums]) -> list[str]:
    """Return what is to be known of intensities."""
    found = []
    for i, name in enumerate(names):
        missing = [each.pixels - each.channels[i].counts for each in sums]
        some, objects = sum(int(m.sum()) for m in missing), sum(int((m > 0).sum()) for m in missing)
        if some:
            found.append(
                f"{name}: {some} pixels of {objects} objects have no value (they are NaN, or lie "
                "beyond the image) and were left out"
            )
    return found


def _frame(
    plan: _Plan, world: _World, shapes: Shapes, crew: Crew, progress: bool | None
) -> pd.DataFrame:
    """Return the table of all objects."""
    import pandas as pd

    sums = plan.sums(crew, progress)
    columns = []
    for place, each in sums.items():
        found = world.columns(each)
        for name, values in zip(plan.names, each.channels, strict=True):
            found |= _intensity_columns(name, values)
        at = tuple(slice(i, i + 1) for i in place)
        cells = shape_cells(taken(plan.labels, dict.fromkeys(plan.others, 0)), each)
        found |= shapes.measured(Boxes(plan.pixels, at, cells), each, crew, progress)
        columns.append(found)
    joined = {name: np.concatenate([found[name] for found in columns]) for name in columns[0]}
    frame = pd.DataFrame(joined, index=_index(plan, sums))
    named = {**world.column_units(), **shapes.units(world.unit, world.size_unit)}
    frame.attrs["units"] = {
        name: unit for name, unit in named.items() if name in frame.reset_index()
    }
    frame.attrs["issues"] = _issues(plan.names, list(sums.values()))
    return frame


def _index(plan: _Plan, sums: Mapping[Place, Sums]) -> pd.Index[Any]:
    """Return the label of every object, after the coordinates of its frame."""
    import pandas as pd

    labels = np.concatenate([each.labels for each in sums.values()])
    if labels.dtype.kind == "u" and not (labels > np.iinfo(np.int64).max).any():
        labels = labels.astype(np.int64)
    index: pd.Index[Any] = pd.Index(labels, name=VALUE)
    if not plan.framed:
        return index
    counts = [each.labels.size for each in sums.values()]
    levels = []
    for dim in plan.framed:
        axis = plan.others.index(dim)
        at = np.repeat([place[axis] for place in sums], counts)
        levels.append(plan.labels[dim].values[at])
    return pd.MultiIndex.from_arrays([*levels, labels], names=[*plan.framed, VALUE])
