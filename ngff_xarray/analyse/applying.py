"""`apply`: any function of an array, on one region or on all of an image, wherever that is."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Unpack

import numpy as np
import xarray as xr

from ngff_xarray import (
    image,
    layout,
    ops,
    read,
    selection,
    store,
    turns,
)
from ngff_xarray.analyse import images, labels, provenance, tables
from ngff_xarray.analyse.blocks import Boundary, pixels, planned
from ngff_xarray.analyse.functions import Function, Result
from ngff_xarray.analyse.identity import identity
from ngff_xarray.analyse.images import Mapped, Shape
from ngff_xarray.analyse.labels import Labelling
from ngff_xarray.analyse.running import Crew
from ngff_xarray.analyse.storing import Stored, Storing, label_name
from ngff_xarray.analyse.tables import Tabling
from ngff_xarray.analyse.work import NAME, Work, token
from ngff_xarray.errors import (
    BlockError,
    MissingDependencyError,
    SelectionError,
    UnsupportedError,
)
from ngff_xarray.image import Obj
from ngff_xarray.progress import progress as shown_progress
from ngff_xarray.text import printable
from ngff_xarray.unfinished import WAIT

Errors = Literal["raise", "collect"]


class ApplyOptions(Stored, total=False):
    """How a function is applied, and its result stored: see `apply`."""

    channels: str | Sequence[str] | None
    kwargs: Mapping[str, Any] | None
    halo: Any
    block: Any
    boundary: Boundary
    stitch: bool
    threshold: float
    replace: bool
    errors: Errors
    scheduler: Any
    workers: int | None
    version: str | None
    progress: bool | None
    wait: float
    storage_options: Mapping[str, Any] | None


def apply(
    obj: Obj,
    func: Callable[..., Any],
    *,
    to: Any = None,
    level: object = 0,
    channels: str | Sequence[str] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    halo: Any = None,
    block: Any = None,
    boundary: Boundary = "clip",
    stitch: bool = False,
    threshold: float = 0.5,
    replace: bool = False,
    errors: Errors = "raise",
    scheduler: Any = None,
    workers: int | None = None,
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
    """Return or write what a function makes of an image, a block at a time.

    The function gets a DataArray in memory, with coordinates in the image's units: a block with
    its halo, with the axes that ``obj`` has. It returns

    - an image: an array of the same shape, perhaps without the channels, or a DataArray, which may
      have channels of its own; axes that it saw all of may be left out;
    - labels: integers, 0 for no object. With ``stitch=True`` the objects of all blocks become
      those of one image;
    - or a table, a pandas.DataFrame. Of its rows those count that lie in the block and not in its
      halo, if it has columns called as the axes: ``x``, ``y``, in the image's unit.

    What it returns for the first block shows what the result is: it must return the like for all.
    It is called once for each block; by processes and clusters twice for the first.

    Parameters
    ----------
    obj
        An image, or a region of one.
    func
        The function.
    to
        Where the result goes: ``"labels/nuclei"``, a label image of the image's own store; a path,
        URL or zarr store for a new image; ``"spots.parquet"`` or ``.csv`` for a table. By default
        it is returned: an array of dask, of which nothing is computed yet; stitched labels and
        tables are computed.
    level
        Of which level: its number, or a pixel size as in ``"0.5 µm"``.
    channels
        Which channels the function gets: a name, and it gets no axis of channels, or several.
    kwargs
        What else to call it with.
    halo
        How far beyond its block the function sees: a length for all axes of space, or a dict by
        axis (``{"t": 1}`` for the frames before and after). Lengths are ``"8 µm"``, a number in the
        axis's unit, or ``"12 px"``. Of the result the halo is cut off. Give at least as much as the
        function's filters reach, and for objects that are stitched as much as one is long: what a
        filter makes of pixels that it cannot see joins objects, or parts them.
    block
        How large blocks are, as ``halo``. Where the result is stored they are rounded up to whole
        chunks (or shards) of it. By default some 8 MB. Along time a block is one frame, and it has
        all channels.
    boundary
        What a halo sees beyond the ends of the image: ``"clip"``, nothing, or ``"reflect"``, the
        image reflected.
    stitch
        Whether objects in several blocks are to have one number: those which two blocks both see
        in their halos (of at least one pixel), and agree on. Numbers are 1, 2, 3, … then.
    threshold
        How much of an object, of what of it both blocks see, they must agree on, 0 to 1; 0 takes
        a single pixel. Connected components come out exactly with any.
    replace
        Whether to replace what is at ``to``.
    errors
        ``"raise"`` at the first block of which the function fails, or ``"collect"``: the rest goes
        on, such blocks are 0 or have no rows, a warning says so, and the result's `provenance`
        which they are.
    scheduler
        ``"threads"``, ``"processes"`` or ``"synchronous"``, or a `distributed.Client`. By default
        the cluster that dask works with, or threads.
    workers
        How many blocks at a time; by default one a processor.
    version, levels, scale_factors, method, chunks, shards, compressor
        How the result is stored, as `to_zarr` and `add_labels` take them. Chunks are by default no
        larger than those of the image.
    progress
        Whether to show how far it is; by default in notebooks and terminals, after a second.
    wait, storage_options
        As `to_zarr` and `add_labels` take them.

    Returns
    -------
    DataArray, DataFrame or DataTree
        The result, without ``to``, or if it is a table; the image with its new labels, or the new
        image, opened.

    Raises
    ------
    BlockError
        If the function fails, or returns what does not fit; ``error.region`` is the block. What is
        done by then is kept: the same call again, also after a kill, goes on with it.
    SelectionError, UnitError
        If there is no such level, channel or axis, a halo is larger than a block, or a length is
        none.
    StoreError
        If there is something at ``to`` already: nothing is computed then.
    MissingDependencyError
        If stitching lacks SciPy.

    Examples
    --------
    >>> import ngff_xarray
    >>> tree = xr.open_datatree(ngff_xarray.sample("cell"))
    >>> def bright(block, above):
    ...     return block > above
    >>> mask = apply(tree, bright, kwargs={"above": 100}, level=1)
    >>> mask.dtype, mask.shape, mask.x.attrs["units"]
    (dtype('bool'), (1, 330, 275), 'micrometer')
    """
    job = prepared(
        obj,
        func,
        to,
        level=level,
        channels=channels,
        kwargs=kwargs,
        halo=halo,
        block=block,
        boundary=boundary,
        stitch=stitch,
        threshold=threshold,
        replace=replace,
        errors=errors,
        scheduler=scheduler,
        workers=workers,
        version=version,
        levels=levels,
        scale_factors=scale_factors,
        method=method,
        chunks=chunks,
        shards=shards,
        compressor=compressor,
        progress=progress,
        wait=wait,
        storage_options=storage_options,
    )
    found = job.run(to)
    job.warn()
    return found


def prepared(
    obj: Obj,
    func: Callable[..., Any],
    to: Any,
    *,
    level: object = 0,
    **options: Unpack[ApplyOptions],
) -> Job:
    """Return what is to be done by a call of `apply`, once all that was told is looked at."""
    errors, stitch = options.get("errors", "raise"), options.get("stitch", False)
    channels = options.get("channels")
    chunks, shards = options.get("chunks"), options.get("shards")
    if errors not in ("raise", "collect"):
        raise SelectionError(f"errors={printable(errors, 40)!r}: expected 'raise' or 'collect'")
    if not callable(func):
        raise TypeError(
            f"expected a function, found {type(func).__name__}: give it without calling it, as in "
            "apply(segment, kwargs={'above': 100})"
        )
    number = ops.which_level(image.levels(obj), level)
    array = chosen(obj, number, channels)
    told = layout.Layout.of(array, chunks, shards, options.get("compressor"))
    own_chunks = told.chunks_of(array, None)
    if chunks is None:
        is_table = isinstance(to, str | os.PathLike) and os.fspath(to).endswith(tables.ENDINGS)
        is_free = (to is None or is_table) and shards is None
        own_chunks = _no_larger(own_chunks, array, options.get("block") if is_free else None)
    unit = told.shards_of(array, own_chunks, None) or own_chunks
    halo, boundary = options.get("halo"), options.get("boundary", "clip")
    blocks = planned(
        array, options.get("block"), _seen(array, halo) if stitch else halo, unit, boundary
    )
    crew = Crew.of(options.get("scheduler"), options.get("workers"))
    threads = crew.workers if crew.is_here else 1
    function = Function.of(func, array, blocks, options.get("kwargs") or {}, threads)
    threshold = options.get("threshold", 0.5) if stitch else None
    return Job(
        obj=obj,
        function=function,
        crew=crew,
        threshold=threshold,
        collects=errors == "collect",
        storing=Storing(
            levels={
                "levels": options.get("levels"),
                "scale_factors": options.get("scale_factors"),
                "method": options.get("method"),
                "chunks": chunks or dict(zip(function.dims, own_chunks, strict=True)),
                "shards": shards,
                "compressor": options.get("compressor"),
            },
            replace=options.get("replace", False),
            version=options.get("version"),
            progress=options.get("progress"),
            wait=options.get("wait", WAIT),
            storage_options=options.get("storage_options"),
        ),
        settings={
            "level": number,
            "channels": channels,
            "halo": dict(zip(function.dims, blocks.halo, strict=True)),
            "block": dict(zip(function.dims, blocks.size, strict=True)),
            "boundary": boundary,
            "threshold": threshold,
        },
    )


def chosen(obj: Obj, number: int, channels: str | Sequence[str] | None) -> xr.DataArray:
    """Return a level of an image with the channels that a function is to get."""
    array = image.levels(obj)[number]
    if channels is not None:
        dim = image.channel_dim(array)
        if dim is None:
            raise SelectionError("channels: the image has no axis of channels: leave it out")
        array = array.isel(selection.positions(array, {dim: channels}))
    if not array.size:
        raise SelectionError(
            f"there are no pixels: the image has the shape {array.shape} here; does the region "
            "that was selected lie beside it?"
        )
    return array


def _no_larger(chunks: Sequence[int], array: xr.DataArray, block: Any) -> tuple[int, ...]:
    """Return chunks that are no larger than those of the image, nor than blocks that were told."""
    limits: dict[Any, int] = dict(array.encoding.get("preferred_chunks") or {})
    for dim, n in pixels(array, "block", block).items():
        limits[dim] = min(n, limits.get(dim, n))
    found = zip(chunks, array.dims, strict=True)
    return tuple(max(1, min(n, limits.get(dim, n))) for n, dim in found)


def _seen(array: xr.DataArray, halo: Any) -> dict[str, Any]:
    """Return a halo in which two blocks see the same pixels."""
    try:
        import scipy  # noqa: F401  # who stitches needs it, in other processes perhaps
    except ImportError as error:
        raise MissingDependencyError("scipy", "analyse", "stitching labels") from error
    told = pixels(array, "halo", halo)
    space = [axis.name for axis in image.axes(array) if axis.type == "space"]
    return {
        name: f"{n} px"
        for name, n in {**told, **{s: max(1, told.get(s, 0)) for s in space}}.items()
    }


@dataclass
class _Target:
    """Where a result goes.

    Parameters
    ----------
    name
        Of a label image.
    store
        For a new image.
    table
        For a table.
    work
        For what is done so far.
    """

    name: str | None = None
    store: Any = None
    table: str | None = None
    work: Work | None = None

    @property
    def is_none(self) -> bool:
        """Whether the result is returned."""
        return self.name is None and self.store is None and self.table is None


@dataclass
class Job:
    """A function that is to be applied to an image.

    Parameters
    ----------
    obj
        The image.
    function, crew
        What is called for each block, and by whom.
    threshold
        How much two blocks must agree on an object; None where labels are not stitched.
    collects
        Whether to go on where the function fails.
    storing
        How the result is stored.
    settings
        What the result says of all this.
    failed
        The blocks of which the function failed.
    """

    obj: Obj
    function: Function
    crew: Crew
    threshold: float | None
    collects: bool
    storing: Storing
    settings: Mapping[str, Any]
    failed: dict[int, BlockError] = field(default_factory=dict)
    _lock: Any = field(default_factory=threading.Lock)

    def run(self, to: Any) -> Any:
        """Do it; return the result, or write it."""
        if isinstance(to, os.PathLike) and os.fspath(to).endswith(tables.ENDINGS):
            to = os.fspath(to)
        stitches = self.threshold is not None
        if stitches and isinstance(to, str) and to.endswith(tables.ENDINGS):
            raise SelectionError(f"to={to!r}: a table is not stitched: leave out stitch=")
        with self.target(to) as target:
            if stitches or target.name is not None:
                return self.labelled(target)
            return self.made(target)

    # ---- where the result goes -------------------------------------------------------------

    @contextmanager
    def target(self, to: Any) -> Iterator[_Target]:
        """Return where the result goes, if it can go there, while nobody else is at it."""
        found = self._found(to)
        with ExitStack() as stack:
            if found.work is not None:
                stack.enter_context(turns.turn(found.work.place, self.storing.wait, creates=True))
            yield found

    def _found(self, to: Any) -> _Target:
        name, storing = label_name(to), self.storing
        if to is None:
            return _Target()
        if name is not None:
            if not isinstance(self.obj, xr.DataTree):
                raise SelectionError(
                    f"to={to!r}: a {type(self.obj).__name__} does not know its store: apply it to "
                    "the tree that was opened, or give a path"
                )
            return _Target(name=name, work=storing.beside_labels(self.obj, name))
        if isinstance(to, str) and to.endswith(tables.ENDINGS):
            tables.check_new(to, storing.storage_options, replace=storing.replace)
            work = Work(store.open_target(to + NAME, access=storing.access))
            return _Target(table=to, work=work)
        beside = storing.beside_image(to)
        return _Target(store=to, work=None if self.threshold is None else beside)

    def failure(self, number: int, error: Exception) -> None:
        """Take note of a block of which the function failed, or raise."""
        if not self.collects or not isinstance(error, BlockError):
            raise error
        with self._lock:
            self.failed[number] = error

    def warn(self) -> None:
        """Say how many blocks failed."""
        if self.failed:
            first = self.failed[min(self.failed)]
            warnings.warn(
                f"{len(self.failed)} of {len(self.function.blocks)} blocks failed; the first: "
                f"{first}",
                stacklevel=3,
            )

    # ---- images and tables -----------------------------------------------------------------

    def made(self, target: _Target) -> Any:
        """Return or write an image or a table."""
        first = self._first()
        if not isinstance(first, Result):
            return self._table(target)
        if target.table is not None:
            raise SelectionError(
                f"to={target.table!r}: the function returned an array, expected a table: give the "
                "path of a store"
            )
        result = Shape.of(self.function, first)
        failed = self.failure if self.collects else None
        if target.is_none:
            self.function.here.clear()
            mapped = Mapped(self.function, result, failed=failed)
            return images.by_dask(mapped, self.function, result)
        function = self._for_all()
        with self._caller(function) as call:
            mapped = Mapped(function, result, call, failed)
            array = images.as_array(mapped, function, result)
            return self._write(target, array)

    def _first(self) -> Any:
        """Return what the function gives for the first block of which it does not fail."""
        for block in self.function.blocks:
            try:
                return self.function.foreseen(block)
            except BlockError:
                if not self.collects or block.number == len(self.function.blocks) - 1:
                    raise
        raise AssertionError("there are blocks")

    def _for_all(self) -> Function:
        """Return the function as one that is called for all blocks."""
        return self.function.for_all() if self.crew.is_here else self.function

    @contextmanager
    def _caller(self, function: Function) -> Iterator[Callable[[int], Any] | None]:
        """Return who calls the function; None for those who write."""
        is_cluster = not isinstance(self.crew.scheduler, str)
        is_usual = self.crew.scheduler == "threads" and self.crew.workers == function.threads
        if (is_usual or is_cluster) and not self.collects:
            yield None
            return
        with self.crew.caller(_called, function) as call:
            yield call

    def _table(self, target: _Target) -> Any:
        if target.store is not None:
            raise SelectionError(
                "to: the function returned a table, which has a file of its own, as in "
                "to='table.parquet' or '.csv', or leave out to="
            )
        work = target.work
        if work is not None:
            name = self._token("table")
            if work.begin(name) is None:
                work.note(name, {})
        with shown_progress("applying", "blocks", self.storing.progress) as bar:
            table = tables.tabled(Tabling(self._for_all(), work), self.crew, bar, self.failure)
        table.attrs.update(self._provenance())
        if work is not None and target.table is not None:
            tables.write(table, target.table, self.storing.storage_options)
            work.end()
        return table

    # ---- labels ----------------------------------------------------------------------------

    def labelled(self, target: _Target) -> Any:
        """Return or write one label image, of objects that are stitched if there is a threshold."""
        work = target.work or Work(store.open_source(_memory()))
        name = self._token("labels", self.threshold)
        said = work.begin(name)
        if said is not None:
            dims, dtype = tuple(said["dims"]), np.dtype(said["dtype"])
            labelling = self._labelling(work, dims, dtype)
        else:
            labelling = self._labelling(work, *self._kind())
            labelling.begin()
            work.note(name, {"dims": list(labelling.dims), "dtype": labelling.dtype.str})
        with shown_progress("applying", "blocks", self.storing.progress) as bar:
            found = labels.labelled(labelling, self.crew, bar, self.failure)
        if target.is_none:
            return found
        written = self._write(target, found)
        work.end()
        return written

    def _kind(self) -> tuple[tuple[str, ...], np.dtype[Any]]:
        """Return the axes and the dtype of the labels that the function gives."""
        first = self._first()
        if not isinstance(first, Result):
            raise SelectionError(
                "the function returned a table, expected labels: a table has a file of its own, "
                "as in to='table.parquet' or '.csv', or leave out to="
            )
        if first.pixels.dtype.kind not in "biu":
            raise UnsupportedError(
                f"the function returned {first.pixels.dtype}, expected labels: integers; an image "
                "has a store of its own: to='result.ome.zarr'"
            )
        channel = self.function.channel_dim or "c"
        return tuple(dim for dim in first.dims if dim != channel), first.pixels.dtype

    def _labelling(
        self,
        work: Work,
        dims: tuple[str, ...],
        dtype: np.dtype[Any],
    ) -> Labelling:
        kept = dtype if self.threshold is None else np.dtype(np.uint32)
        return Labelling(self._for_all(), work, dims, kept, self.threshold)

    def _token(self, *what: Any) -> str | None:
        pixels = identity(self.function.source)
        if pixels is None:
            return None
        coords = [(str(k), v.values) for k, v in self.function.coords.coords.items()]
        function = self.function
        return token(
            function.func, dict(function.kwargs), pixels, coords, repr(function.blocks), *what
        )

    # ---- writing ---------------------------------------------------------------------------

    def call(self) -> str | None:
        """Return what tells this call from others of other functions, parameters and settings."""
        function = self.function
        return token(function.func, dict(function.kwargs), dict(self.settings))

    def _provenance(self) -> dict[str, Any]:
        function = self.function
        return provenance.made(
            function.func, function.kwargs, self.settings, self.failed, self.call()
        )

    def _write(self, target: _Target, array: xr.DataArray) -> Any:
        if target.name is not None:
            assert isinstance(self.obj, xr.DataTree)
            return self.storing.write_labels(self.obj, target.name, array, self._provenance())
        # a part in which a block failed is no part that is done
        resume = None if self.collects else self._token("image", dict(self.storing.levels))
        version, said = image.version(self.obj), self._provenance()
        written = self.storing.write_image(
            target.store, array, said, version=version, resume=resume or ""
        )
        if not self.failed:
            return written
        self._tell_failed(store.open_target(target.store, access=self.storing.access))
        return read.open_tree(target.store, access=self.storing.access)

    def _tell_failed(self, place: store.Source) -> None:
        """Let an image say of which blocks the function failed, which was not known before."""
        group = store.require_group(place, store.look(place))
        said = self._provenance()
        store.change_attributes(
            place, group.zarr_format, lambda old: {**old, **said}, consolidated=True
        )


def _called(function: Function, number: int) -> Any:
    return function.called(function.blocks[number])


def _memory() -> Any:
    from zarr.storage import MemoryStore

    return MemoryStore()
