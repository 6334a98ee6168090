"""Predictions for patches -> one image, in which those that overlap are blended."""

from __future__ import annotations

import itertools
import operator
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import image, labelling, layout, multiscale, store, write
from ngff_xarray.analyse import provenance
from ngff_xarray.analyse.blocks import Blocks
from ngff_xarray.analyse.functions import Function
from ngff_xarray.analyse.images import described
from ngff_xarray.analyse.patches import Patch, Patches
from ngff_xarray.analyse.work import Work
from ngff_xarray.boxes import Box, within
from ngff_xarray.errors import BlockError, SelectionError, StoreError, UnsupportedError
from ngff_xarray.lazy import lazy
from ngff_xarray.progress import progress as shown_progress
from ngff_xarray.storage import Access
from ngff_xarray.text import printable
from ngff_xarray.unfinished import WAIT

Blend = Literal["linear", "gaussian", "mean", "max", "nearest"]
Prediction = tuple[Patch | int, Any]

_SIGMA = 1 / 8  # of a patch: as nnU-Net and MONAI have it
_LEAN = 1e-3  # how much more the far half of a patch counts, so that two never count the same
_SHOWN = 10  # patches that an error names


def stitch_patches(
    predictions: Iterable[Prediction] | Callable[[NDArray[Any]], Any],
    patches: Patches,
    *,
    to: Any = None,
    blend: Blend | None = None,
    argmax: bool = False,
    channels: Sequence[str] | None = None,
    fill: float = 0,
    batch_size: int = 8,
    replace: bool = False,
    version: str | None = None,
    levels: int | None = None,
    scale_factors: Sequence[int | Mapping[str, int]] | None = None,
    method: str | None = None,
    chunks: layout.Sizes = None,
    shards: layout.Sizes = None,
    compressor: layout.Compressor | None = None,
    progress: bool | None = None,
    wait: float = WAIT,
    storage_options: Mapping[str, Any] | None = None,
) -> Any:
    """Return or write the image that predictions for patches make together.

    Each pixel is the weighted mean of the predictions that it has; weights are scaled so that they
    sum to one, also at the ends of the image. Where all of them are the same, it is exactly that.

    Predictions are put together in blocks, chunks of the result, and one that has all of its
    patches is finished. If they come in the order of the patches, as without shuffling, no more is
    in memory than a band of blocks (and the result itself, without ``to``); in random order it is
    up to all of it.

    Parameters
    ----------
    predictions
        In any order, for each patch once: pairs of it (a `Patch`, or its number) and an array. Or a
        function, which is called with several patches at a time, an array (n, …), and returns one
        prediction for each. Predictions have the axes of a patch, with as many channels as they
        like, first where patches have none; or they have no channels. What `numpy.asarray` takes
        is an array.
    patches
        What they are for.
    to
        Where the result goes: ``"labels/nuclei"``, a label image of the image's own store, of
        integers; or a path, URL or zarr store for a new image. By default it is returned.
    blend
        ``"linear"``: what is nearer to the centre of a patch counts more, and less linearly towards
        its edges; ``"gaussian"``: as a Gaussian, sigma an eighth of the patch; ``"mean"``: all
        count the same; ``"max"``: the largest prediction; ``"nearest"``: that of the patch whose
        centre is nearest, no mixture. By default linear for floats, and nearest for integers and
        booleans, which are classes perhaps; others round them.
    argmax
        Whether the result is the number of the channel that has the most, of class scores.
    channels
        The names of the channels.
    fill
        What pixels have that no patch covers.
    batch_size
        With how many patches a function is called.
    replace
        Whether to replace what is at ``to``.
    version, levels, scale_factors, method, chunks, shards, compressor
        How the result is stored, as `to_zarr` and `add_labels` take them. What is not finished
        waits in a temporary directory, as Python chooses it (``TMPDIR``).
    progress
        Whether to show how far it is; by default in notebooks and terminals, after a second.
    wait, storage_options
        As `to_zarr` and `add_labels` take them.

    Returns
    -------
    DataArray, DataTree or None
        The result, in memory; the image with its new labels; for a new image nothing.

    Raises
    ------
    SelectionError
        If predictions are missing (it names the patches), come twice or for other patches.
    BlockError
        If a prediction has another shape or dtype; ``error.region`` is the patch.
    UnsupportedError
        If they are no numbers, or labels no integers.
    StoreError
        If there is something at ``to`` already: nothing is predicted then.

    Examples
    --------
    >>> import ngff_xarray
    >>> tree = xr.open_datatree(ngff_xarray.sample("cell"))
    >>> patches = tree.ngff.patches("64 px", overlap=0.25, level=1)
    >>> bright = stitch_patches(lambda batch: batch / 255, patches)
    >>> bright.dims, bright.shape, bool((bright == tree.ngff.level(1) / 255).all())
    (('c', 'y', 'x'), (1, 330, 275), True)
    """
    if not isinstance(patches, Patches):
        raise TypeError(f"patches: expected Patches, found a {type(patches).__name__}")
    if blend is not None and blend not in get_args(Blend):
        raise SelectionError(
            f"blend={printable(blend, 40)!r}: expected one of {', '.join(get_args(Blend))}"
        )
    if not isinstance(batch_size, int) or batch_size < 1:
        raise SelectionError(
            f"batch_size: expected at least 1, found {printable(batch_size, 40)!r}"
        )
    is_function = callable(predictions)
    job = _Job(
        patches=patches,
        to=to,
        blend=blend,
        argmax=argmax,
        channels=None if channels is None else tuple(channels),
        fill=fill,
        replace=replace,
        wait=wait,
        progress=progress,
        storage_options=storage_options,
        function=predictions if is_function else stitch_patches,  # type: ignore[arg-type]  # not narrowed
        stored={
            "levels": levels,
            "scale_factors": scale_factors,
            "method": method,
            "chunks": chunks,
            "shards": shards,
            "compressor": compressor,
        },
        version=version,
    )
    job.check_target()
    if is_function:
        with closing(_predicted(predictions, patches, batch_size)) as found:
            return job.stitched(found)
    return job.stitched(predictions)  # type: ignore[arg-type]  # as above


def _predicted(func: Any, patches: Patches, batch_size: int) -> Generator[Prediction]:
    """Yield what a function predicts for each patch, in their order without shuffling."""
    with closing(iter(patches.sorted())) as every:  # type: ignore[type-var]  # a generator
        while batch := list(itertools.islice(every, batch_size)):
            numbers = ", ".join(str(patch.number) for patch in batch)
            try:
                found = func(np.stack([patch.pixels for patch in batch]))
            except Exception as error:
                raise BlockError(
                    f"patches {numbers}: {type(error).__name__}: {printable(error, 500)}",
                    batch[0].region,
                ) from error
            if not hasattr(found, "__len__") or len(found) != len(batch):
                count = len(found) if hasattr(found, "__len__") else type(found).__name__
                raise BlockError(
                    f"patches {numbers}: the function returned {count}, expected a prediction for "
                    f"each of {len(batch)}",
                    batch[0].region,
                )
            for patch, prediction in zip(batch, found, strict=True):
                yield patch, np.asarray(prediction)


# ---- weights -----------------------------------------------------------------------------------


def _tent(n: int) -> NDArray[np.float64]:
    return np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5


_WEIGHTS: Mapping[str, Callable[[int], NDArray[np.float64]]] = {
    "linear": _tent,
    "gaussian": lambda n: np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n * _SIGMA)) ** 2),
    "mean": np.ones,
    "max": np.ones,
    "nearest": lambda n: _tent(n) * (1 + _LEAN * np.arange(n) / n) / n,
}


def weights(blend: Blend, shape: Sequence[int]) -> NDArray[Any]:
    """Return how much each pixel of a patch counts, more than 0.

    Examples
    --------
    >>> weights("linear", (4,)), weights("mean", (1, 2))
    (array([0.5, 1.5, 1.5, 0.5]), array([[1., 1.]]))
    """
    found = np.ones(())
    for n in shape:
        found = np.multiply.outer(found, _WEIGHTS[blend](n))
    return found


# ---- putting together --------------------------------------------------------------------------


@dataclass
class _Block:
    """A part of the result that has some of its patches."""

    values: NDArray[Any]
    weights: NDArray[Any]

    def add(self, box: Box, found: NDArray[Any], counts: NDArray[Any], blend: Blend) -> None:
        """Blend a prediction into a box.

        The mean is kept as it is by then, and not as a sum: predictions that are the same stay what
        they are to the last bit.
        """
        values, weights = self.values[box], self.weights[self._flat(box)]
        if blend == "nearest":
            is_nearer = counts > weights
            np.copyto(values, found, where=is_nearer)
            np.maximum(weights, counts, out=weights)
        elif blend == "max":
            is_larger = (weights == 0) | (found > values)
            np.copyto(values, found, where=is_larger)
            weights[...] = 1
        else:
            weights += counts
            values += (found - values) * (counts / weights)

    def _flat(self, box: Box) -> Box:
        """Return a box of the weights, which are the same for all channels."""
        return tuple(
            side if n == m else slice(0, 1)
            for side, n, m in zip(box, self.weights.shape, self.values.shape, strict=True)
        )


@dataclass(frozen=True)
class _Kind:
    """What predictions are like, as the first one shows.

    Parameters
    ----------
    dims
        The axes of the result before argmax, in their order.
    given
        Those of a prediction.
    channel
        Which of them is that of channels, and how many it has.
    dtype
        Of a prediction.
    """

    dims: tuple[str, ...]
    given: tuple[str, ...]
    channel: tuple[str, int] | None
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, patches: Patches, shape: Sequence[int], dtype: np.dtype[Any]) -> _Kind | None:
        """Return what a prediction of some shape is; None if it is none for such patches."""
        source = patches._source
        own, known = source.channel_dim, source.channel_dim or "c"
        space = [axis.name for axis in image.axes(source.array) if axis.type == "space"]
        plain = tuple(dim for dim in patches.dims if dim != own)
        several = patches.dims if own is not None else (known, *plain)
        every = tuple(map(str, source.pixels.dims))
        if len(shape) == len(several):
            given, channel = several, (known, shape[several.index(known)])
            if own is None:
                at = next((i for i, dim in enumerate(every) if dim in space), len(every))
                every = (*every[:at], known, *every[at:])
        else:
            given, channel = plain, None
            every = tuple(dim for dim in every if dim != own)
        sizes = [source.sizes.get(dim, channel[1] if channel else 0) for dim in given]
        if list(shape) != sizes or not all(sizes):
            return None
        return cls(every, given, channel, dtype)

    def arranged(self, found: NDArray[Any]) -> NDArray[Any]:
        """Return a prediction with all axes of the result, in their order."""
        order = [self.given.index(dim) for dim in self.dims if dim in self.given]
        key = tuple(slice(None) if dim in self.given else None for dim in self.dims)
        return found.transpose(order)[key]


class _Canvas:
    """What is put together of predictions, a block at a time.

    Parameters
    ----------
    patches, kind, blend
        What predictions are for, what they are like, and how they are blended.
    unit
        Pixels of a block along the axes that patches have a place along.
    finish
        Is given each block that has all of its patches, with its box, with channels.
    fill
        What pixels have that no patch covers.
    """

    def __init__(
        self,
        patches: Patches,
        kind: _Kind,
        blend: Blend,
        unit: Sequence[int],
        finish: Callable[[Box, NDArray[Any]], None],
        fill: float,
    ) -> None:
        source = patches._source
        self._kind, self._blend, self._finish, self._fill = kind, blend, finish, fill
        self._dims = source.dims
        shape = tuple(source.pixels.sizes[dim] for dim in self._dims)
        self._blocks = Blocks(shape, tuple(unit), (0,) * len(shape), "clip")
        self._left = _counts(self._blocks, patches)
        self._empty = self._left == 0
        self._open: dict[tuple[int, ...], _Block] = {}
        is_single = kind.dtype.kind == "f" and kind.dtype.itemsize <= 4
        self._dtype = np.dtype(np.float32 if is_single else np.float64)
        if blend in ("max", "nearest"):
            self._dtype = kind.dtype
        patch = [source.sizes.get(dim, 1) for dim in self._dims]
        counts = weights(blend, patch).astype(np.float32 if is_single else np.float64)
        self._counts = counts.reshape(self._with_channel(patch, 1))

    def _with_channel(self, sides: Sequence[Any], channel: Any) -> list[Any]:
        """Return what is along the axes of the result, of what is along those of places."""
        own = dict(zip(self._dims, sides, strict=True))
        return [own.get(dim, channel) for dim in self._kind.dims]

    def add(self, box: Box, inside: Box, found: NDArray[Any]) -> None:
        """Blend in a prediction.

        Parameters
        ----------
        box, inside
            Where its patch is, and what of that the image has.
        found
            Its pixels, arranged.
        """
        for block in self._blocks.within(inside):
            both = tuple(
                slice(max(a.start, b.start), min(a.stop, b.stop))
                for a, b in zip(block.core, inside, strict=True)
            )
            buffer = self._open.get(block.place)
            if buffer is None:
                buffer = self._open[block.place] = self._begun(block.core)
            whole = slice(None)
            part = tuple(self._with_channel(within(both, box), whole))
            target = tuple(self._with_channel(within(both, block.core), whole))
            buffer.add(target, found[part], self._counts[part], self._blend)
            self._left[block.place] -= 1
            if not self._left[block.place]:
                del self._open[block.place]
                buffer.values[np.broadcast_to(buffer.weights == 0, buffer.values.shape)] = (
                    self._fill
                )
                self._finish(block.core, buffer.values)

    def _begun(self, core: Box) -> _Block:
        sides = [side.stop - side.start for side in core]
        count = self._kind.channel[1] if self._kind.channel else 1
        return _Block(
            np.zeros(self._with_channel(sides, count), self._dtype),
            np.zeros(self._with_channel(sides, 1), self._counts.dtype),
        )

    def end(self) -> None:
        """Finish the blocks that no patch covers."""
        for place in np.argwhere(self._empty):
            core = self._blocks.at(tuple(map(int, place))).core
            block = self._begun(core)
            block.values[...] = self._fill
            self._finish(core, block.values)


def _counts(blocks: Blocks, patches: Patches) -> NDArray[np.int64]:
    """Return how many patches each block has pixels of."""
    source = patches._source
    starts = patches._starts[patches._numbers]
    sizes = np.array([source.sizes.get(dim, 1) for dim in source.dims])
    unit = np.array(blocks.size)
    first = np.maximum(starts, 0) // unit
    last = (np.minimum(starts + sizes, blocks.shape) - 1) // unit + 1
    found = np.zeros([n + 1 for n in blocks.grid], np.int64)
    for corner in itertools.product((False, True), repeat=len(sizes)):
        at = np.where(corner, last, first)
        np.add.at(found, tuple(at.T), (-1) ** sum(corner))
    for axis in range(found.ndim):
        np.cumsum(found, axis, out=found)
    return found[tuple(slice(0, n) for n in blocks.grid)]


# ---- what is asked for -------------------------------------------------------------------------


@dataclass
class _Job:
    """What is asked for: see `stitch_patches`."""

    patches: Patches
    to: Any
    blend: Blend | None
    argmax: bool
    channels: tuple[str, ...] | None
    fill: float
    replace: bool
    wait: float
    progress: bool | None
    storage_options: Mapping[str, Any] | None
    function: Callable[..., Any]
    stored: Mapping[str, Any]
    version: str | None

    @property
    def label(self) -> str | None:
        """The name of the label image, if it is to be one."""
        is_label = isinstance(self.to, str) and self.to.startswith("labels/")
        return self.to.removeprefix("labels/") if is_label else None

    def check_target(self) -> None:
        """Check that the result can go where it is to go."""
        if self.to is None:
            return
        if self.label is not None:
            labelling.check_addable(
                self._tree(),
                self.label,
                replace=self.replace,
                wait=self.wait,
                storage_options=self.storage_options,
            )
            return
        access = Access(self.storage_options) if self.storage_options is not None else None
        place = store.open_target(self.to, access=access)
        if not self.replace and store.is_taken(place):
            raise StoreError(
                f"{printable(place.url, store.MAX_SHOWN)}: there is something already: give "
                "replace=True, or another place"
            )

    def _tree(self) -> xr.DataTree:
        tree = self.patches.image
        if not isinstance(tree, xr.DataTree):
            raise SelectionError(
                f"to={self.to!r}: these patches do not know the store of their image: make them of "
                "the tree that was opened, in this process, or give a path"
            )
        return tree

    def stitched(self, predictions: Iterable[Prediction]) -> Any:
        """Return or write what predictions make."""
        every = self._checked(predictions)
        first = next(every, None)
        if first is None:
            raise self._missing(np.zeros(len(self.patches._starts), bool))
        kind, patch, found = first
        result = _Result.of(self, kind)
        if self.to is None:
            pixels = np.zeros(result.shape, result.dtype)

            def put(box: Box, block: NDArray[Any]) -> None:
                pixels[result.box(box)] = result.pixels(block)

            self._fill_in(kind, result, put, patch, found, every)
            return result.described(xr.Variable(result.dims, pixels))
        with tempfile.TemporaryDirectory(
            prefix="ngff-patches-", ignore_cleanup_errors=True
        ) as folder:
            work = Work(store.open_target(folder))
            work.create(result.shape, result.dtype, result.unit)
            writer = work.writer()

            def write_block(box: Box, block: NDArray[Any]) -> None:
                start = [side.start for side in result.box(box)]
                writer.write(start, result.pixels(block))

            self._fill_in(kind, result, write_block, patch, found, every)
            variable = xr.Variable(
                result.dims, lazy(work.array()), encoding={"chunks": result.unit}
            )
            return self._write(result, result.described(variable))

    def _fill_in(
        self,
        kind: _Kind,
        result: _Result,
        put: Callable[[Box, NDArray[Any]], None],
        number: int,
        found: NDArray[Any],
        others: Iterator[tuple[_Kind, int, NDArray[Any]]],
    ) -> None:
        """Put all predictions together."""
        patches, source = self.patches, self.patches._source
        own = dict(zip(result.dims, result.unit, strict=True))
        unit = [own[dim] for dim in source.dims]
        canvas = _Canvas(patches, kind, result.blend, unit, put, self.fill)
        with shown_progress("stitching", "patches", self.progress, len(patches)) as bar:
            for _, which, prediction in itertools.chain([(kind, number, found)], others):
                start = patches._starts[which].tolist()
                canvas.add(source.box(start), source.inside(start)[0], prediction)
                bar.did()
                bar.show()
        canvas.end()

    def _checked(
        self, predictions: Iterable[Prediction]
    ) -> Iterator[tuple[_Kind, int, NDArray[Any]]]:
        """Yield predictions as arrays with all axes of the result, and their patches' numbers."""
        wanted = np.zeros(len(self.patches._starts), bool)
        wanted[self.patches._numbers] = True
        seen = np.zeros_like(wanted)
        kind: _Kind | None = None
        for each in predictions:
            number = self._number(each, wanted)
            if seen[number]:
                raise SelectionError(f"predictions: there are two for patch {number}")
            seen[number] = True
            found = np.asarray(each[1])
            mine = self._kind(number, each[1], found, kind)
            kind = kind or mine
            yield kind, number, mine.arranged(found)
        if not (seen == wanted).all():
            raise self._missing(seen)

    def _number(self, pair: Any, wanted: NDArray[np.bool_]) -> int:
        """Return which patch a prediction is for."""
        try:
            patch, _ = pair
        except (TypeError, ValueError) as error:
            raise SelectionError(
                "predictions: expected pairs of a patch, or its number, and an array; found a "
                f"{type(pair).__name__}"
            ) from error
        if isinstance(patch, Patch):
            number = patch.number
            fits = number < len(wanted) and tuple(self.patches._starts[number]) == patch.start
        else:
            try:
                number = operator.index(patch)
            except TypeError:
                number = -1
            fits = 0 <= number < len(wanted)
        if not fits or not wanted[number]:
            raise SelectionError(
                f"predictions: {printable(patch, 100)} is none of these {len(self.patches)} patches"
            )
        return number

    def _kind(self, number: int, given: Any, found: NDArray[Any], before: _Kind | None) -> _Kind:
        if found.dtype.kind not in "biuf":
            raise UnsupportedError(
                f"predictions: for patch {number} it has the dtype {found.dtype}, expected numbers"
            )
        kind = _Kind.of(self.patches, found.shape, found.dtype)
        if kind is not None and isinstance(given, xr.DataArray) and given.dims != kind.given:
            kind = None
        if kind is None:
            sizes = zip(self.patches.dims, self.patches.shape, strict=True)
            raise self._error(
                number,
                f"the prediction has the shape {found.shape}, expected that of the patch, "
                f"{', '.join(f'{dim}: {n}' for dim, n in sizes)}, without channels or with others",
            )
        if before is not None and kind != before:
            raise self._error(
                number,
                f"the prediction has {found.dtype} and the shape {found.shape}; the first one had "
                f"{before.dtype} and {before.channel[1] if before.channel else 'no'} channels",
            )
        return kind

    def _error(self, number: int, message: str) -> BlockError:
        region = self.patches._source.region(self.patches._starts[number].tolist())
        return BlockError(f"patch {number}: {message}", region)

    def _missing(self, seen: NDArray[np.bool_]) -> SelectionError:
        missing = sorted(n for n in self.patches._numbers.tolist() if not seen[n])
        named = ", ".join(map(str, missing[:_SHOWN])) + (", …" if len(missing) > _SHOWN else "")
        return SelectionError(
            f"predictions: there are none for {len(missing)} of {len(self.patches)} patches: "
            f"{named}; leave these out on purpose with patches[…]"
        )

    # ---- writing ---------------------------------------------------------------------------

    def _write(self, result: _Result, array: xr.DataArray) -> Any:
        source = self.patches._source
        settings = {
            "patches": len(self.patches),
            "size": dict(source.sizes),
            "blend": result.blend,
            **({"argmax": True} if self.argmax else {}),
        }
        said = provenance.made(self.function, {}, settings, {}, None)
        options = dict(self.stored)
        options["chunks"] = options["chunks"] or dict(zip(result.dims, result.unit, strict=True))
        if self.label is not None:
            return labelling.add_labels(
                self._tree(),
                self.label,
                array,
                replace=self.replace,
                attributes=said,
                progress=self.progress,
                wait=self.wait,
                storage_options=self.storage_options,
                **options,
            )
        made = {key: options.pop(key) for key in ("levels", "scale_factors", "method")}
        tree = multiscale.multiscale(array, **made)
        tree.attrs = {**tree.attrs, **said}
        given = self.patches.image
        write.to_zarr(
            tree,
            self.to,
            mode="w" if self.replace else "w-",
            version=self.version or (None if given is None else image.version(given)),
            progress=self.progress,
            wait=self.wait,
            storage_options=self.storage_options,
            **options,
        )
        return None


@dataclass(frozen=True)
class _Result:
    """The image that predictions make.

    Parameters
    ----------
    function
        The image that they are of.
    kind
        What predictions are like.
    blend
        How they are blended.
    dims, shape, unit, dtype
        Its axes, and how many pixels it and one of its blocks have along them.
    axis
        Along which axis of a block the largest is looked for.
    names
        Those of its channels.
    """

    function: Function
    kind: _Kind
    blend: Blend
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    unit: tuple[int, ...]
    dtype: np.dtype[Any]
    axis: int | None
    names: tuple[str, ...] | None

    @classmethod
    def of(cls, job: _Job, kind: _Kind) -> _Result:
        """Return what predictions of a kind make."""
        blend: Blend = job.blend or ("linear" if kind.dtype.kind == "f" else "nearest")
        array = job.patches._source.array
        blocks = Blocks(tuple(array.shape), tuple(array.shape), (0,) * array.ndim, "clip")
        function = Function.of(job.function, array, blocks, {}, 1)
        dims, dtype, axis = kind.dims, kind.dtype, None
        count = kind.channel[1] if kind.channel else 1
        if job.argmax:
            if kind.channel is None:
                raise SelectionError("argmax: the predictions have no channels to choose from")
            axis = dims.index(kind.channel[0])
            dims = (*dims[:axis], *dims[axis + 1 :])
            dtype = np.min_scalar_type(count - 1)
        elif job.channels is not None and (not kind.channel or len(job.channels) != count):
            raise SelectionError(
                f"channels: there are {len(job.channels)} names, for {count} channels"
            )
        if job.label is not None and (dtype.kind not in "biu" or (kind.channel and axis is None)):
            raise UnsupportedError(
                f"to={job.to!r}: the predictions have the dtype {dtype} and "
                f"{count if kind.channel else 'no'} channels; expected labels, integers without "
                "channels: give argmax=True for class scores, or the path of a new image"
            )
        is_channel = kind.channel[0] if kind.channel else None
        shape = tuple(count if dim == is_channel else array.sizes[dim] for dim in dims)
        unit = _unit(job, array, xr.DataArray(np.broadcast_to(dtype.type(0), shape), dims=dims))
        return cls(function, kind, blend, dims, shape, unit, dtype, axis, job.channels)

    def box(self, box: Box) -> Box:
        """Return a box along its axes, of one along those that patches have a place along."""
        own = dict(zip(places_of(self.function), box, strict=True))
        return tuple(
            own.get(dim, slice(0, n)) for dim, n in zip(self.dims, self.shape, strict=True)
        )

    def pixels(self, block: NDArray[Any]) -> NDArray[Any]:
        """Return the pixels of a block that has all its patches."""
        if self.axis is not None:
            return np.argmax(block, self.axis).astype(self.dtype)
        if self.dtype.kind in "biu" and block.dtype.kind == "f":
            return np.rint(block).astype(self.dtype)
        return block.astype(self.dtype, copy=False)

    def described(self, variable: xr.Variable) -> xr.DataArray:
        """Return it with its coordinates."""
        return described(variable, self.function, self.names, self.function.coords)


def places_of(function: Function) -> tuple[str, ...]:
    """Return the axes that patches have a place along."""
    return tuple(dim for dim in function.dims if dim != function.channel_dim)


def _unit(job: _Job, array: xr.DataArray, result: xr.DataArray) -> tuple[int, ...]:
    """Return how large blocks of the result are: its chunks, with all channels."""
    told = layout.Layout.of(result, job.stored["chunks"], None, None)
    known = array.encoding.get("chunks")
    own: dict[Any, int] = {}
    if job.stored["chunks"] is None and isinstance(known, tuple) and len(known) == array.ndim:
        own = dict(zip(array.dims, known, strict=True))
    found = dict(zip(result.dims, told.chunks_of(result, None), strict=True))
    channel = image.channel_dim(result)
    return tuple(
        n if dim == channel else max(1, min(int(own.get(dim, found[dim])), n))
        for dim, n in result.sizes.items()
    )
