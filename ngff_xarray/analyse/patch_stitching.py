"""Predictions for patches -> one image, in which those that overlap are blended."""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import image, layout, pyramid, store, turns
from ngff_xarray.analyse import provenance
from ngff_xarray.analyse.blending import Blend, Canvas, Finish
from ngff_xarray.analyse.blocks import Block, Blocks
from ngff_xarray.analyse.functions import Function
from ngff_xarray.analyse.identity import identity
from ngff_xarray.analyse.images import described
from ngff_xarray.analyse.patch_sequence import Patches
from ngff_xarray.analyse.places import BY
from ngff_xarray.analyse.predictions import Checked, Kind, Prediction, checked, predicted
from ngff_xarray.analyse.storing import Storing, label_name
from ngff_xarray.analyse.work import Work, token
from ngff_xarray.boxes import Box
from ngff_xarray.errors import SelectionError, UnsupportedError
from ngff_xarray.lazy import lazy
from ngff_xarray.progress import progress as shown_progress
from ngff_xarray.text import printable
from ngff_xarray.unfinished import WAIT


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

    With ``to``, blocks that are finished wait beside the result (``.ngff_xarray-apply-…``) until
    all are. The same call of a function again, also after a kill, goes on with them: it predicts
    patches only that other blocks have pixels of. Predictions that are given one by one begin anew,
    as nothing says that they are the same; so do those for a zarr store that is given as it is.

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
        How the result is stored, as `to_zarr` and `add_labels` take them.
    progress
        Whether to show how far it is; by default in notebooks and terminals, after a second.
    wait, storage_options
        As `to_zarr` and `add_labels` take them.

    Returns
    -------
    DataArray or DataTree
        The result, in memory; the image with its new labels, or the new image, opened.

    Raises
    ------
    SelectionError
        If predictions are missing (it names the patches), come twice or for other patches.
    BlockError
        If a function fails, or a prediction has another shape or dtype; ``error.region`` is the
        patch.
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
        function=predictions if is_function else stitch_patches,  # type: ignore[arg-type]  # not narrowed
        storing=Storing(
            levels={
                "levels": levels,
                "scale_factors": scale_factors,
                "method": method,
                "chunks": chunks,
                "shards": shards,
                "compressor": compressor,
            },
            replace=replace,
            version=version,
            progress=progress,
            wait=wait,
            storage_options=storage_options,
        ),
    )
    work = job.check_target()
    if not is_function:
        return job.stitched(lambda wanted: predictions, None)  # type: ignore[arg-type, return-value]  # as above
    with ExitStack() as stack:

        def predict(wanted: Patches) -> Iterable[Prediction]:
            return stack.enter_context(closing(predicted(predictions, wanted, batch_size)))

        return job.stitched(predict, work)


@dataclass
class _Job:
    """What is asked for: see `stitch_patches`."""

    patches: Patches
    to: Any
    blend: Blend | None
    argmax: bool
    channels: tuple[str, ...] | None
    fill: float
    function: Callable[..., Any]
    storing: Storing

    @property
    def label(self) -> str | None:
        """The name of the label image, if it is to be one."""
        return label_name(self.to)

    def check_target(self) -> Work | None:
        """Check that the result can go where it is to go; return what is beside it for the while.

        Nothing is beside a store that is given as it is.
        """
        if self.to is None:
            return None
        if self.label is not None:
            return self.storing.beside_labels(self._tree(), self.label)
        return self.storing.beside_image(self.to)

    def _tree(self) -> xr.DataTree:
        tree = self.patches.image
        if not isinstance(tree, xr.DataTree):
            raise SelectionError(
                f"to={self.to!r}: these patches do not know the store of their image: make them of "
                "the tree that was opened, in this process, or give a path"
            )
        return tree

    def stitched(
        self, predictions: Callable[[Patches], Iterable[Prediction]], beside: Work | None
    ) -> Any:
        """Return or write what predictions make.

        Parameters
        ----------
        predictions
            Returns those for some patches.
        beside
            Where blocks that are finished wait for the others, and for another call if this one
            is stopped; None for a temporary directory.
        """
        if self.to is None:
            return self._made(predictions)
        with self._kept(beside) as work:
            name = None if beside is None else self._token()
            said = work.begin(name)
            if said is None:
                canvas, result, rest = self._begun(predictions)
                work.create(result.shape, result.dtype, result.unit)
                work.note(name, result.kind.said)
            else:
                result = _Result.of(self, Kind.told(said))
                canvas = self._canvas(result, work.done())
                wanted = self._wanted(canvas)
                rest = (
                    checked(predictions(wanted), wanted, result.kind) if len(wanted) else iter(())
                )
            writer = work.writer()

            def finish(block: Block, pixels: NDArray[Any], is_missing: NDArray[np.bool_]) -> None:
                start = [side.start for side in result.box(block.core)]
                writer.write(start, result.pixels(pixels, is_missing))
                work.put(block.number, {})

            self._fill_in(canvas, finish, rest)
            pixels = lazy(work.array())
            variable = xr.Variable(result.dims, pixels, encoding={"chunks": result.unit})
            written = self._write(result, result.described(variable), name)
            work.end()
            return written

    def _made(self, predictions: Callable[[Patches], Iterable[Prediction]]) -> xr.DataArray:
        """Return what predictions make, in memory."""
        canvas, result, rest = self._begun(predictions)
        made = np.zeros(result.shape, result.dtype)

        def finish(block: Block, pixels: NDArray[Any], is_missing: NDArray[np.bool_]) -> None:
            made[result.box(block.core)] = result.pixels(pixels, is_missing)

        self._fill_in(canvas, finish, rest)
        return result.described(xr.Variable(result.dims, made))

    @contextmanager
    def _kept(self, beside: Work | None) -> Iterator[Work]:
        """Return where finished blocks wait, while nobody else is at it."""
        if beside is not None:
            with turns.turn(beside.place, self.storing.wait, creates=True):
                yield beside
            return
        with tempfile.TemporaryDirectory(
            prefix="ngff-patches-", ignore_cleanup_errors=True
        ) as folder:
            yield Work(store.open_target(folder))

    def _token(self) -> str | None:
        """Return what tells this call from others of which something is left."""
        source = self.patches.source
        coords = [(str(k), v.values) for k, v in source.coords.coords.items()]
        starts = self.patches.starts[np.sort(self.patches.numbers)]
        how = self.blend, self.argmax, self.fill, self.storing.levels["chunks"], source.pad
        pixels = identity(source.pixels)
        if pixels is None:
            return None
        return token("patches", self.function, pixels, coords, dict(source.sizes), starts, how)

    def _begun(
        self, predictions: Callable[[Patches], Iterable[Prediction]]
    ) -> tuple[Canvas, _Result, Iterator[Checked]]:
        """Return what the first prediction says of the result, and all of them."""
        every = checked(predictions(self.patches), self.patches)
        first = next(every, None)
        if first is None:
            raise SelectionError("patches: there are none, so there is nothing to put together")
        result = _Result.of(self, first.kind)
        return self._canvas(result), result, itertools.chain([first], every)

    def _canvas(self, result: _Result, done: Collection[int] = ()) -> Canvas:
        own = dict(zip(result.dims, result.unit, strict=True))
        unit = [own[dim] for dim in self.patches.source.dims]
        return Canvas(self.patches, result.kind, result.blend, unit, done)

    def _wanted(self, canvas: Canvas) -> Patches:
        """Return the patches that blocks which are not finished have pixels of."""
        patches, numbers = self.patches, self.patches.numbers
        boxes = (patches.source.inside(patches.starts[n].tolist())[0] for n in numbers)
        keep = np.fromiter(map(canvas.wants, boxes), bool, len(numbers))
        return patches.only(numbers[keep])

    def _fill_in(self, canvas: Canvas, finish: Finish, predictions: Iterable[Checked]) -> None:
        """Put all predictions together."""
        patches, source = self.patches, self.patches.source
        with shown_progress("stitching", "patches", self.storing.progress, len(patches)) as bar:
            for each in predictions:
                start = patches.starts[each.number].tolist()
                canvas.add(source.box(start), source.inside(start)[0], each.pixels, finish)
                bar.did()
                bar.show()
        canvas.end(finish)

    # ---- writing ---------------------------------------------------------------------------

    def _write(self, result: _Result, array: xr.DataArray, name: str | None) -> Any:
        source = self.patches.source
        settings = {
            "patches": len(self.patches),
            "size": dict(source.sizes),
            "blend": result.blend,
            **({"argmax": True} if self.argmax else {}),
        }
        said = provenance.made(self.function, {}, settings, {}, None)
        storing = self.storing
        if storing.levels["chunks"] is None:
            chunks = dict(zip(result.dims, result.unit, strict=True))
            storing = dataclasses.replace(storing, levels={**storing.levels, "chunks": chunks})
        if self.label is not None:
            return storing.write_labels(self._tree(), self.label, array, said)
        given = self.patches.image
        version = None if given is None else image.version(given)
        return storing.write_image(self.to, array, said, version=version, resume=name or "")


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
    fill
        What pixels have that no patch covers.
    """

    function: Function
    kind: Kind
    blend: Blend
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    unit: tuple[int, ...]
    dtype: np.dtype[Any]
    axis: int | None
    names: tuple[str, ...] | None
    fill: float

    @classmethod
    def of(cls, job: _Job, kind: Kind) -> _Result:
        """Return what predictions of a kind make."""
        blend: Blend = job.blend or ("linear" if kind.dtype.kind == "f" else "nearest")
        array = job.patches.source.array
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
        _check_fill(job.fill, dtype)
        is_channel = kind.channel[0] if kind.channel else None
        shape = tuple(count if dim == is_channel else array.sizes[dim] for dim in dims)
        unit = _unit(job, array, xr.DataArray(np.broadcast_to(dtype.type(0), shape), dims=dims))
        return cls(function, kind, blend, dims, shape, unit, dtype, axis, job.channels, job.fill)

    def box(self, box: Box) -> Box:
        """Return a box along its axes, of one along those that patches have a place along."""
        own = dict(zip(places_of(self.function), box, strict=True))
        return tuple(
            own.get(dim, slice(0, n)) for dim, n in zip(self.dims, self.shape, strict=True)
        )

    def pixels(self, block: NDArray[Any], is_missing: NDArray[np.bool_]) -> NDArray[Any]:
        """Return the pixels of a block that has all its patches.

        Parameters
        ----------
        block
            What was blended.
        is_missing
            Where there was nothing, of one channel.
        """
        if self.axis is not None:
            found = np.argmax(block, self.axis).astype(self.dtype)
            is_missing = np.squeeze(is_missing, self.axis)
        elif self.dtype.kind in "biu" and block.dtype.kind == "f":
            found = np.rint(block).astype(self.dtype)
        else:
            found = block.astype(self.dtype, copy=False)
        np.copyto(found, self.dtype.type(self.fill), where=is_missing)
        return found

    def described(self, variable: xr.Variable) -> xr.DataArray:
        """Return it with its coordinates."""
        return described(variable, self.function, self.names, self.function.coords)


def _check_fill(fill: Any, dtype: np.dtype[Any]) -> None:
    """Check that pixels can have a value."""
    try:
        fits = dtype.kind == "f" or int(fill) == fill
        if dtype.kind in "iu":
            fits = fits and np.iinfo(dtype).min <= fill <= np.iinfo(dtype).max
    except (TypeError, ValueError, OverflowError):  # no number, NaN, infinite
        fits = False
    if not fits:
        raise SelectionError(
            f"fill={printable(fill, 40)!r}: expected a number that {dtype} holds, which the pixels "
            "of the result are"
        )


def places_of(function: Function) -> tuple[str, ...]:
    """Return the axes that patches have a place along."""
    return tuple(dim for dim in function.dims if dim != function.channel_dim)


def _unit(job: _Job, array: xr.DataArray, result: xr.DataArray) -> tuple[int, ...]:
    """Return how large blocks of the result are: its chunks, with all channels."""
    told = layout.Layout.of(result, job.storing.levels["chunks"], None, None)
    known = pyramid.chunks_of(job.patches.source.pixels, BY)
    own: dict[Any, int] = {}
    if job.storing.levels["chunks"] is None and known is not None:
        own = {dim: max(sizes) for dim, sizes in zip(array.dims, known, strict=True)}
    found = dict(zip(result.dims, told.chunks_of(result, None), strict=True))
    channel = image.channel_dim(result)
    return tuple(
        n if dim == channel else max(1, min(int(own.get(dim, found[dim])), n))
        for dim, n in result.sizes.items()
    )
