"""The tile server: what a view asks for, drawn in threads, kept, and prepared when idle."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngff_xarray.text import printable
from ngff_xarray.viewing import planning, probing
from ngff_xarray.viewing.cache import Lru
from ngff_xarray.viewing.drawing import Painter, Window, run_starts
from ngff_xarray.viewing.encoding import encode, fitting_labels, label_runs
from ngff_xarray.viewing.layers import Layer, World
from ngff_xarray.viewing.model import View
from ngff_xarray.viewing.planning import Plan, TileSpec
from ngff_xarray.viewing.screenshot import screenshot
from ngff_xarray.viewing.sources import Reader
from ngff_xarray.viewing.workers import AFTERWARDS, IDLE, URGENT, WANTED, Job, Workers

_log = logging.getLogger(__name__)

_MOST_PREFETCHED = 16  # tiles of one neighbouring view
_MOST_PROPERTIES = 500  # labels of a message


@dataclass(frozen=True)
class Tile:
    """A tile that was drawn: its format and bytes; or why it was not."""

    spec: TileSpec
    format: str
    data: bytes = b""
    message: str = ""

    @property
    def is_error(self) -> bool:
        """Whether it could not be drawn."""
        return self.format == "error"


@dataclass(frozen=True)
class LabelRuns:
    """The labels of a tile: as runs, and what is said of each."""

    spec: TileSpec
    height: int
    width: int
    lengths: bytes
    ids: bytes
    wide: bool
    occurring: tuple[int, ...]


Done = Callable[[Tile], None]


class Caches:
    """The chunks and tiles that were used last, of one or more servers.

    Parameters
    ----------
    chunk_bytes, tile_bytes
        How much of decoded chunks, and of tiles, is kept.
    """

    def __init__(self, chunk_bytes: float = 256e6, tile_bytes: float = 64e6) -> None:
        self.chunks = Reader(int(chunk_bytes))
        # no tile remembers its layer here: that would keep an image in memory
        self.tiles: Lru[Any, tuple[str, bytes]] = Lru(int(tile_bytes), lambda it: len(it[1]) + 500)
        self.painter = Painter(self.chunks)

    def forget(self, world: World) -> None:
        """Let go of the pixels of a world's layers."""
        layers = [each for layer in world.layers for each in (layer, *layer.labels)]
        numbers = {level.source.number for layer in layers for level in layer.levels}
        self.chunks.cache.drop(lambda key: isinstance(key, tuple) and key[0] in numbers)


@dataclass
class _Task:
    """A tile that is being drawn or waits for it, and who waits for the tile."""

    spec: TileSpec
    urgency: int
    begun: bool = False
    waiting: list[tuple[TileSpec, Done]] = field(default_factory=list)


class TileServer:
    """Draws the tiles of views of one world.

    Parameters
    ----------
    world
        What is seen.
    chunk_bytes, tile_bytes
        How much of decoded chunks, and of tiles, is kept.
    caches
        Caches that other servers use, too, instead of its own.
    threads
        How many draw; one more does what is urgent.
    share
        Another server whose chunks, tiles and threads to use.

    Examples
    --------
    >>> import xarray as xr
    >>> from ngff_xarray.viewing import home_view, make_world
    >>> world = make_world(xr.DataArray(np.zeros((40, 60), "u1"), dims=("y", "x")))
    >>> server = TileServer(world)
    >>> plan = server.plan(home_view(world))
    >>> tile = server.tile(plan.tiles[0])
    >>> tile.format, tile.spec.width, tile.spec.height
    ('jpeg', 60, 40)
    >>> server.close()
    """

    def __init__(
        self,
        world: World,
        *,
        chunk_bytes: float = 256e6,
        tile_bytes: float = 64e6,
        caches: Caches | None = None,
        threads: int = 4,
        share: TileServer | None = None,
    ) -> None:
        self.world = world
        self._owns_threads = share is None
        self._lock = threading.Lock()
        self._tasks: dict[Any, _Task] = {}
        if share is None:
            self._caches = caches or Caches(chunk_bytes, tile_bytes)
            self._workers = Workers(threads)
            weakref.finalize(self, self._workers.stop)  # if nobody closes it
        else:
            self._caches, self._workers = share._caches, share._workers
        self.chunks, self.tiles = self._caches.chunks, self._caches.tiles
        self._painter = self._caches.painter

    def plan(self, view: View) -> Plan:
        """Return the tiles that a view consists of; nothing is read."""
        return planning.plan(self.world, view)

    # ---- tiles -----------------------------------------------------------------------------

    def start(self, spec: TileSpec, done: Done, *, urgent: bool = False) -> None:
        """Draw a tile; ``done`` gets it in another thread, or in this one if it is there."""
        kept = self.tiles.get(spec.content)
        if kept is not None:
            done(Tile(spec, *kept))
            return
        self._enqueue(spec, URGENT if urgent else WANTED, done)

    def _enqueue(self, spec: TileSpec, urgency: int, done: Done | None) -> None:
        key = spec.content
        with self._lock:
            task = self._tasks.get(key)
            if task is None:
                task = self._tasks[key] = _Task(spec, IDLE + 1)
            if done is not None:
                task.waiting.append((spec, done))
            if task.begun or task.urgency <= urgency:
                return
            task.urgency = urgency  # a second job, if one waits: who comes first draws
        self._workers.submit(urgency, partial(self._perform, key, task), (id(self), key))

    def _perform(self, key: Any, task: _Task) -> None:
        with self._lock:
            if task.begun or self._tasks.get(key) is not task:
                return
            task.begun = True
        tile = self.tile(task.spec)
        with self._lock:
            self._tasks.pop(key, None)
        for spec, done in task.waiting:
            done(_renamed(tile, spec))

    def tile(self, spec: TileSpec) -> Tile:
        """Return a tile, drawn here and now unless it is kept; an error tile if that fails."""
        kept = self.tiles.get(spec.content)
        if kept is not None:
            return Tile(spec, *kept)
        try:
            pixels = self._painter.draw(spec)
            tile = Tile(spec, *encode(pixels, lossless=spec.look.lossless))
        except Exception as error:  # whatever a store or a codec raises: the others go on
            _log.debug("a tile could not be drawn", exc_info=True)
            return Tile(spec, "error", message=_message(error))
        self.tiles.put(spec.content, (tile.format, tile.data))
        return tile

    def keep(self, specs: Iterable[TileSpec]) -> None:
        """Forget the tiles that nobody has begun to draw, but for these."""
        wanted = {spec.content for spec in specs}

        def unwanted(job: Job) -> bool:
            about = job.about
            return isinstance(about, tuple) and about[0] == id(self) and about[1] not in wanted

        dropped = self._workers.drop(unwanted)
        with self._lock:
            for job in dropped:
                key = job.about[1]  # type: ignore[index]  # it is a pair: see above
                if key in self._tasks and not self._tasks[key].begun:
                    del self._tasks[key]

    def has(self, spec: TileSpec) -> bool:
        """Tell whether a tile is drawn already."""
        return self.tiles.get(spec.content) is not None

    def prefetch(self, view: View) -> None:
        """Draw what a slider may ask for next, one tile after another, while nothing is wanted."""
        for other in planning.neighbours(self.world, view):
            tiles = self.plan(other).tiles
            for spec in tiles if len(tiles) <= _MOST_PREFETCHED else ():
                if not self.has(spec):
                    self._enqueue(spec, IDLE, None)

    # ---- labels ----------------------------------------------------------------------------

    def start_labels(
        self, specs: Sequence[TileSpec], done: Callable[[Sequence[LabelRuns]], None]
    ) -> None:
        """Find the labels at every pixel of some tiles; ``done`` gets them in another thread."""
        self._workers.submit(AFTERWARDS, lambda: done(self.labels(specs)), (id(self), None))

    def labels(self, specs: Sequence[TileSpec]) -> list[LabelRuns]:
        """Return the labels at every pixel of tiles, of those that have and can be read."""
        found = []
        for spec in specs:
            try:
                labels = self._painter.labels_of(spec)
            except Exception:  # its tile says so
                _log.debug("labels could not be read", exc_info=True)
                continue
            if labels is None:
                labels = np.zeros((1, 1), np.uint8) if _has_labels(spec) else None
            layer = labels_layer(spec)
            if layer is not None:
                _ = (
                    layer.properties
                )  # of a million labels that takes a second: not where it is told
            if labels is not None:
                found.append(_runs(spec, fitting_labels(labels)))
        return found

    def properties(self, specs: LabelRuns, known: Collection[int]) -> dict[int, str]:
        """Return what the store says of the labels in a tile, but for those that are known."""
        layer = labels_layer(specs.spec)
        if layer is None or not layer.properties:
            return {}
        texts = ((label, layer.about(label)) for label in specs.occurring if label not in known)
        return {label: text for label, text in texts if text}

    # ---- other questions -------------------------------------------------------------------

    def ask(self, question: Callable[[], None]) -> None:
        """Do something soon that reads little, in another thread."""
        self._workers.submit(WANTED, question)

    def look(self, question: Callable[[], None]) -> None:
        """Do something that reads more, in another thread, after what is wanted of tiles."""
        self._workers.submit(AFTERWARDS, question)

    def probe(self, view: View, x: float, y: float) -> dict[str, Any]:
        """Return the message about a point of the world; this reads."""
        return probing.probe(self._painter, self.world, view, x, y)

    def window(self, layer: str, channel: str) -> Window:
        """Return the window of a channel that has none of its own; this reads."""
        found = self.world.layer(layer)
        return self._painter.window(found, _channel_number(found, channel))

    def histogram(
        self, layer: str, channel: str, bins: int = 256, view: View | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return how often values occur in a channel: counts, edges of bins; this reads.

        Parameters
        ----------
        bins
            How many at most.
        view
            Where; by default where the viewer begins.
        """
        found = self.world.layer(layer)
        number = _channel_number(found, channel)
        place = None if view is None else view.place
        return probing.histogram(self._painter, found, number, bins, place)

    def picture(self, view: View) -> NDArray[np.uint8]:
        """Return what a canvas shows, (y, x, 3) in device pixels; this reads."""
        return screenshot(self.plan(view), view, self._painter)

    def close(self) -> None:
        """End the threads, if they are this server's own, and let go of its pixels."""
        self.keep(())
        if self._owns_threads:
            self._workers.close()
            self._caches.forget(self.world)


def _renamed(tile: Tile, spec: TileSpec) -> Tile:
    """Return a tile as another state or viewport calls it."""
    return tile if tile.spec is spec else Tile(spec, tile.format, tile.data, tile.message)


def _message(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return printable(" ".join(text.split()), 200)


def _channel_number(layer: Layer, name: str) -> int:
    return [channel.name for channel in layer.channels].index(name)


def labels_layer(spec: TileSpec) -> Layer | None:
    """Return the label image whose ids are told of a tile: its layer, or the topmost over it."""
    layer = spec.look.layer
    if layer.kind == "labels":
        return layer
    shown = {how.name for how in spec.look.shown.labels}
    return next((each for each in reversed(layer.labels) if each.name in shown), None)


def _has_labels(spec: TileSpec) -> bool:
    return labels_layer(spec) is not None


def _runs(spec: TileSpec, labels: NDArray[Any]) -> LabelRuns:
    lengths, ids, wide = label_runs(labels)
    height, width = labels.shape
    occurring = np.unique(run_starts(labels)[1])
    occurring = occurring[occurring != 0][:_MOST_PROPERTIES]
    return LabelRuns(spec, height, width, lengths, ids, wide, tuple(occurring.tolist()))
