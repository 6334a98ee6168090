"""Two label images of the same pixels compared: which objects of one are those of the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import geometry, image, units
from ngff_xarray.analyse.accumulating import plain, run_starts
from ngff_xarray.analyse.label_arrays import extended_dims, in_order
from ngff_xarray.analyse.measuring import Label, labels_of
from ngff_xarray.analyse.running import Crew
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
from ngff_xarray.errors import MissingDependencyError, SelectionError
from ngff_xarray.image import Obj
from ngff_xarray.progress import progress as progress_bar
from ngff_xarray.text import printable

if TYPE_CHECKING:
    import pandas as pd

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)

_NEAR = 1e-3  # of a pixel: what is no further apart lies at the same place
_MANY = 2**16  # pairs that may wait to be put together


@dataclass(frozen=True, eq=False)
class Comparison:
    """How well the objects of two label images agree; prints as text and in a notebook.

    Parameters
    ----------
    names
        What the two are called.
    scores
        A row a threshold: ``tp`` (objects of both that are matched with an IoU of at least that),
        ``fp`` (objects of the second that are not), ``fn`` (of the first that are not),
        ``precision``, ``recall``, ``f1``, ``average_precision`` (``tp / (tp + fp + fn)``, as
        StarDist's accuracy and Cellpose's average precision), ``mean_iou`` of those matched, and
        ``panoptic_quality`` (``mean_iou * f1``). They are 0 where nothing is matched.
    objects
        A row an object, or a pair that is matched at the lowest threshold: its labels in both
        (``a`` and ``b``, missing where there is none), ``iou``, and the pixels of both.
    """

    names: tuple[str, str]
    scores: pd.DataFrame
    objects: pd.DataFrame

    def __str__(self) -> str:
        first, second = (printable(name, 80) for name in self.names)
        counts = self.objects[["pixels_a", "pixels_b"]].gt(0).sum()
        head = f"{first} ({counts.iloc[0]} objects) and {second} ({counts.iloc[1]} objects)"
        return f"{head}\n{self.scores.round(3).to_string()}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        import html

        head, _, _ = str(self).partition("\n")
        return f"<p>{html.escape(head)}</p>{self.scores.round(3).to_html()}"


def compare(
    a: Label,
    b: Label,
    *,
    thresholds: float | Sequence[float] | None = None,
    tree: Obj | None = None,
    level: object = 0,
    block: Block = None,
    scheduler: Any = None,
    workers: int | None = None,
    progress: bool | None = None,
) -> Comparison:
    """Return how well the objects of two label images agree.

    An object of one is held against one of the other by their IoU: the pixels that they share, of
    all those that they have. At a threshold, as many pairs as possible are matched whose IoU is not
    less, each object once; of several ways the one with the largest sum of IoUs. Above 0.5 there is
    one way only. Pixels are read once, a block at a time.

    Parameters
    ----------
    a, b
        The label images, of which the first is the truth, if there is one: trees, arrays of
        integers, or names of label images of ``tree``. 0 is no object.
    thresholds
        IoUs above 0, up to 1; by default 0.5, 0.55, … 0.95.
    tree
        The image whose label images are meant by names.
    level
        Which level of both: a number, or a pixel size (``"1 µm"``).
    block
        How many bytes are read for a block (``"64 MB"``, by default), or its pixels along axes.
    scheduler
        Who does it: ``"threads"``, ``"processes"`` or ``"synchronous"``, or a `distributed.Client`.
        By default the cluster that dask works with, if its workers can have the pixels, or threads.
    workers
        How many blocks are under way at a time; by default one a processor.
    progress
        Whether to show a bar; by default after a second, in a notebook or a terminal.

    Raises
    ------
    SelectionError
        If the two do not have the same pixels by shape and coordinates, a threshold makes no sense,
        or there is no such label image.
    UnsupportedError
        If one is no label image.
    MissingDependencyError
        If objects must be matched in several ways (at 0.5 and below), and scipy is not installed.

    References
    ----------
    Schmidt et al., Cell Detection with Star-convex Polygons, 2018, https://arxiv.org/abs/1806.03535;
    Kirillov et al., Panoptic Segmentation, 2019, https://arxiv.org/abs/1801.00868.

    Examples
    --------
    >>> a = xr.DataArray(np.array([[1, 1, 0, 2], [1, 1, 0, 2]]), dims=("y", "x"))
    >>> b = xr.DataArray(np.array([[5, 5, 0, 0], [5, 0, 0, 0]]), dims=("y", "x"))
    >>> found = compare(a, b, thresholds=(0.5, 0.9))
    >>> found.scores[["tp", "fp", "fn", "mean_iou"]]
               tp  fp  fn  mean_iou
    threshold
    0.5         1   0   1      0.75
    0.9         0   1   2      0.00
    >>> found.objects
       a     b   iou  pixels_a  pixels_b
    0  1     5  0.75         4         3
    1  2  <NA>  0.00         2         0
    """
    wanted = _thresholds(THRESHOLDS if thresholds is None else thresholds)
    source: Obj = xr.DataTree() if tree is None else tree
    if tree is None and (isinstance(a, str) or isinstance(b, str)):
        raise SelectionError(
            "a name of a label image needs its image: tree.ngff.compare('nuclei', 'nuclei_v2')"
        )
    (first, _), (second, _) = (labels_of(source, label, level) for label in (a, b))
    if set(first.dims) == set(second.dims):
        second = in_order(second, first.dims)
    _check_same(first, second)
    pairs = _counted(first, second, block, scheduler, workers, progress)
    frames = pairs.frames
    overlaps = [_Overlaps.of(pairs.of_frame(frame)) for frame in frames]
    names = (_name(a, "a"), _name(b, "b"))
    return Comparison(names, _scores(overlaps, wanted), _objects(overlaps, frames, wanted, first))


def _name(label: Label, default: str) -> str:
    if isinstance(label, str):
        return label
    is_image = image.kind(label) == "image"  # what a function made of one says that one's name
    return default if is_image else image.name(label) or default


def _thresholds(thresholds: float | Sequence[float]) -> tuple[float, ...]:
    found = np.atleast_1d(np.asarray(thresholds))
    if found.ndim != 1 or not found.size or found.dtype.kind not in "iuf":
        raise SelectionError(f"thresholds: expected numbers above 0, found {thresholds!r}")
    if not ((found > 0) & (found <= 1)).all():
        raise SelectionError(f"thresholds: an IoU is above 0 and no more than 1; {thresholds!r}")
    return tuple(map(float, found))


def _check_same(a: xr.DataArray, b: xr.DataArray) -> None:
    """Check that two label images have the same pixels.

    Raises
    ------
    SelectionError
        If they have not.
    """
    mend = "take the same region of both, or resample one: tree.ngff.resample(like=other)"
    if a.dims != b.dims or a.shape != b.shape:
        sizes = [" x ".join(f"{dim} {size}" for dim, size in each.sizes.items()) for each in (a, b)]
        raise SelectionError(f"the first labels are {sizes[0]}, the second {sizes[1]}: {mend}")
    for dim in map(str, a.dims):
        if dim not in a.coords or dim not in b.coords or not a.sizes[dim]:
            continue
        one, other = a[dim], b[dim]
        if not (geometry.is_numeric(one) and geometry.is_numeric(other)):
            continue
        factor = units.factor(geometry.unit(other), geometry.unit(one))
        step = geometry.pixel_size(one) or 1.0
        apart = np.abs(geometry.numbers(one) - geometry.numbers(other) * factor).max()
        if not apart <= _NEAR * step:
            raise SelectionError(
                f"{dim}: pixels of the two label images lie up to {apart:g} "
                f"{geometry.unit(one) or ''} apart (a pixel is {step:g}): {mend}"
            )


# ---- how many pixels objects share -------------------------------------------------------------


@dataclass(frozen=True)
class _Pairs:
    """How many pixels have a label in one image and a label in the other; 0 is no object.

    ``frame`` is which of the frames, in the order of the array; (n,) all of them.
    """

    frame: NDArray[np.int64]
    a: NDArray[Any]
    b: NDArray[Any]
    pixels: NDArray[np.int64]

    def merged(self) -> _Pairs:
        """Return them with every pair once, in rising order."""
        order = np.lexsort((self.b, self.a, self.frame))
        keys = [each[order] for each in (self.frame, self.a, self.b)]
        if not order.size:
            return self
        is_new = np.ones(order.size, np.bool_)
        is_new[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
        starts = np.flatnonzero(is_new)
        frame, a, b = (key[starts] for key in keys)
        return _Pairs(frame, a, b, np.add.reduceat(self.pixels[order], starts))

    @classmethod
    def together(cls, parts: Iterable[_Pairs]) -> _Pairs:
        """Return those of several parts of an image."""
        several = [(part.frame, part.a, part.b, part.pixels) for part in parts]
        frame, a, b, pixels = (np.concatenate(each) for each in zip(*several, strict=True))
        return cls(frame, a, b, pixels).merged()

    @property
    def frames(self) -> list[int]:
        """The frames that there are objects in; the first if there are none."""
        return np.unique(self.frame).tolist() or [0]

    def of_frame(self, frame: int) -> _Pairs:
        """Return those of one frame."""
        part = slice(*np.searchsorted(self.frame, [frame, frame + 1]))
        return _Pairs(self.frame[part], self.a[part], self.b[part], self.pixels[part])


@dataclass(frozen=True)
class _Both:
    """Two label images of the same pixels. Workers get it pickled."""

    a: Pixels
    b: Pixels

    @property
    def pixel_bytes(self) -> int:
        """How many bytes are read for a pixel."""
        return self.a.array.dtype.itemsize + self.b.array.dtype.itemsize

    def none(self) -> _Pairs:
        """Return no pairs, in the types of some."""
        none = np.zeros(0, np.int64)
        a, b = (none.astype(_native(each.array)) for each in (self.a, self.b))
        return _Pairs(none, a, b, none)

    def pairs(self, box: Box) -> _Pairs:
        """Return the pairs in a box, frame by frame."""
        shape = self.a.array.shape
        depth = len(shape) - len(extended_dims(self.a.array))
        parts = [self.none()]
        one, other = self.a.read(box), self.b.read(box)
        for at in np.ndindex(*(side.stop - side.start for side in box[:depth])):
            place = [side.start + i for side, i in zip(box[:depth], at, strict=True)]
            frame = int(np.ravel_multi_index(place, shape[:depth])) if depth else 0
            parts += _parts(one[at], other[at], frame)
        return _Pairs.together(parts)


def _pairs_of(both: _Both, box: Box) -> _Pairs:
    return both.pairs(box)


def _counted(
    a: xr.DataArray,
    b: xr.DataArray,
    block: Block,
    scheduler: Any,
    workers: int | None,
    progress: bool | None,
) -> _Pairs:
    """Return the pairs of two label images, read once."""
    number = Crew.of(scheduler, workers).workers
    both = _Both(Pixels(a, number), Pixels(b, number))
    crew = crew_for(scheduler, workers, both)
    pixel_bytes = both.pixel_bytes
    sizes = block_sizes(a, pixel_bytes, block)
    boxes = cut([slice(0, size) for size in a.shape], sizes) if a.size else ()
    kept = [both.none()]
    most = waiting = 0
    with (
        progress_bar("comparing", "B", progress, a.size * pixel_bytes) as bar,
        working(crew, _pairs_of, both) as (call, threads),
    ):

        def work(box: Box) -> _Pairs:
            found = call(box)
            bar.did(count(box) * pixel_bytes)
            return found

        for part in swept(boxes, work, threads, bar.show):
            kept.append(part)
            waiting += part.a.size
            if waiting > most + _MANY:
                kept = [_Pairs.together(kept)]
                most, waiting = kept[0].a.size, 0
    return _Pairs.together(kept)


def _native(array: xr.DataArray) -> np.dtype[Any]:
    return plain(np.zeros(0, array.dtype)).dtype


def _parts(a: NDArray[Any], b: NDArray[Any], frame: int) -> list[_Pairs]:
    """Return the pairs of a box of one frame, slab by slab."""
    found = []
    for slab in cut([slice(0, n) for n in a.shape], slab_sizes(a.shape)):
        one, other = a[slab], b[slab]
        starts = run_starts(one, other)
        sizes = np.diff(starts, append=one.size).astype(np.int64)
        ours, theirs = (plain(each.reshape(-1)[starts]) for each in (one, other))
        is_object = (ours != 0) | (theirs != 0)
        pixels = sizes[is_object]
        frames = np.full(pixels.size, frame, np.int64)
        found.append(_Pairs(frames, ours[is_object], theirs[is_object], pixels).merged())
    return found


# ---- which objects are the same ----------------------------------------------------------------


@dataclass(frozen=True)
class _Overlaps:
    """The objects of a frame of both images, and those pairs that share pixels.

    Parameters
    ----------
    labels
        Those of the objects of both, in rising order.
    pixels
        How many each has.
    rows, columns
        The pairs, by index of the objects of the first and of the second.
    iou
        Of each pair.
    """

    labels: tuple[NDArray[Any], NDArray[Any]]
    pixels: tuple[NDArray[np.int64], NDArray[np.int64]]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    iou: NDArray[np.float64]

    @classmethod
    def of(cls, pairs: _Pairs) -> _Overlaps:
        """Return those of all pairs of a frame."""
        labels, pixels = [], []
        for own in (pairs.a, pairs.b):
            found, place = np.unique(own, return_inverse=True)
            total = np.zeros(found.size, np.int64)
            np.add.at(total, place, pairs.pixels)
            labels.append(found[found != 0])
            pixels.append(total[found != 0])
        both = (pairs.a != 0) & (pairs.b != 0)
        rows, columns = (
            np.searchsorted(labels[0], pairs.a[both]),
            np.searchsorted(labels[1], pairs.b[both]),
        )
        shared = pairs.pixels[both]
        iou = shared / (pixels[0][rows] + pixels[1][columns] - shared)
        return cls((labels[0], labels[1]), (pixels[0], pixels[1]), rows, columns, iou)

    def matched(self, threshold: float) -> NDArray[np.intp]:
        """Return which of the pairs are matched, by index: every object once at the most."""
        good = np.flatnonzero(self.iou >= threshold)
        rows, columns = self.rows[good], self.columns[good]
        alone = (np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1)
        if alone.all():
            return good
        chosen = self._chosen(good[~alone])
        return np.sort(np.concatenate([good[alone], chosen]))

    def _chosen(self, pairs: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the most of some pairs that have no object in common, by the sum of their IoUs."""
        try:
            from scipy.sparse import coo_array
            from scipy.sparse.csgraph import min_weight_full_bipartite_matching
        except ImportError as error:
            purpose = "matching objects that share pixels with several"
            raise MissingDependencyError("scipy", "analyse", purpose) from error
        known, rows = np.unique(self.rows[pairs], return_inverse=True)
        others, columns = np.unique(self.columns[pairs], return_inverse=True)
        # each row has a column of its own besides, which is worth little: to be matched with none.
        # One pair more is worth more than all IoUs
        own = np.arange(known.size)
        gain = np.concatenate([known.size + 2 + self.iou[pairs], np.ones(known.size)])
        ends = np.concatenate([rows, own]), np.concatenate([columns, others.size + own])
        graph = coo_array((gain, ends), shape=(known.size, others.size + known.size)).tocsr()
        partner = np.empty(known.size, np.intp)
        matched, partners = min_weight_full_bipartite_matching(graph, maximize=True)
        partner[matched] = partners
        is_chosen: NDArray[np.bool_] = partner[rows] == columns
        return pairs[is_chosen]


def _scores(overlaps: Sequence[_Overlaps], thresholds: Sequence[float]) -> pd.DataFrame:
    """Return a row a threshold, of the objects of all frames."""
    import pandas as pd

    n_a, n_b = (sum(each.labels[i].size for each in overlaps) for i in (0, 1))
    rows = []
    for threshold in thresholds:
        iou = np.concatenate([each.iou[each.matched(threshold)] for each in overlaps])
        tp, total = iou.size, float(iou.sum())
        rows.append(
            {
                "tp": tp,
                "fp": n_b - tp,
                "fn": n_a - tp,
                "precision": _part(tp, n_b),
                "recall": _part(tp, n_a),
                "f1": _part(2 * tp, n_a + n_b),
                "average_precision": _part(tp, n_a + n_b - tp),
                "mean_iou": _part(total, tp),
                "panoptic_quality": _part(2 * total, n_a + n_b),
            }
        )
    return pd.DataFrame(rows, index=pd.Index(thresholds, name="threshold"))


def _part(some: float, whole: int) -> float:
    return float(some / whole) if whole else 0.0


def _objects(
    overlaps: Sequence[_Overlaps],
    frames: Sequence[int],
    thresholds: Sequence[float],
    array: xr.DataArray,
) -> pd.DataFrame:
    """Return a row a matched pair, and one an object that is not."""
    import pandas as pd

    tables = [_table(each, min(thresholds)) for each in overlaps]
    others = [str(dim) for dim in array.dims[: array.ndim - len(extended_dims(array))]]
    shape = [array.sizes[dim] for dim in others]
    for table, frame in zip(tables, frames, strict=True):
        place: Sequence[Any] = [0] * len(others)
        if others and array.size:
            place = np.unravel_index(frame, shape)
        for i, (dim, at) in enumerate(zip(others, place, strict=True)):
            if array.sizes[dim] != 1:
                values = array[dim].values
                table.insert(i, dim, values[int(at)] if len(table) else values[:0])
    return pd.concat(tables, ignore_index=True)


def _table(found: _Overlaps, threshold: float) -> pd.DataFrame:
    import pandas as pd

    pairs = found.matched(threshold)
    rows, columns = found.rows[pairs], found.columns[pairs]
    lone_a, lone_b = (
        np.setdiff1d(np.arange(labels.size), own)
        for labels, own in zip(found.labels, (rows, columns), strict=True)
    )
    none_a, none_b = np.full(lone_b.size, -1), np.full(lone_a.size, -1)
    a, b = np.concatenate([rows, lone_a, none_a]), np.concatenate([columns, none_b, lone_b])
    columns_of = {
        "a": _labels(found.labels[0], a),
        "b": _labels(found.labels[1], b),
        "iou": np.concatenate([found.iou[pairs], np.zeros(lone_a.size + lone_b.size)]),
        "pixels_a": _at(found.pixels[0], a),
        "pixels_b": _at(found.pixels[1], b),
    }
    return pd.DataFrame(columns_of)


def _labels(labels: NDArray[Any], which: NDArray[np.intp]) -> Any:
    """Return labels by index, missing where it is -1."""
    import pandas as pd

    is_large = labels.dtype.kind == "u" and labels.size and labels[-1] > np.iinfo(np.int64).max
    values = _at(labels.astype(np.uint64 if is_large else np.int64), which)
    return pd.arrays.IntegerArray(values, which < 0)


def _at(values: NDArray[Any], which: NDArray[np.intp]) -> NDArray[Any]:
    """Return values by index, 0 where it is -1."""
    return np.append(values, values.dtype.type(0))[which]
