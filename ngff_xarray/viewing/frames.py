"""Views as they are wanted -> messages to a browser: one in flight, the newest waiting."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from ngff_xarray.viewing.encoding import MOST_BYTES
from ngff_xarray.viewing.model import View
from ngff_xarray.viewing.planning import Plan, TileSpec
from ngff_xarray.viewing.tiles import LabelRuns, Tile
from ngff_xarray.viewing.workers import Clock, Timer

_log = logging.getLogger(__name__)

Message = dict[str, Any]
Send = Callable[[Message, list[bytes]], None]
CallSoon = Callable[[Callable[[], None]], None]

# seconds
_COARSE_AFTER = 0.025  # if tiles are not ready by then, a coarse picture is drawn
_PATIENCE = 0.060  # then what is ready is sent, and so on
_HURRY = 0.030  # the same while a newer view waits
_LOST = 1.0  # a browser that does not answer for so long will not
_UNANSWERED = 0.150  # the same of a message that a better one is to follow
_RETRY = 5.0  # tiles that could not be read are tried again
_REST = 0.150  # without another view, before labels are told: of a drag they would be in the way

_MOST_PROPERTIES = 500  # labels whose properties one message tells
_MOST_PROPERTY_TEXT = 100_000  # letters of them


class Server(Protocol):
    """What `Frames` asks of a `TileServer`."""

    def plan(self, view: View) -> Plan:
        """Return what a view asks for."""

    def start(self, spec: TileSpec, done: Callable[[Tile], None], *, urgent: bool = False) -> None:
        """Draw a tile."""

    def keep(self, specs: Iterable[TileSpec]) -> None:
        """Forget all others."""

    def has(self, spec: TileSpec) -> bool:
        """Tell whether a tile is drawn already."""

    def prefetch(self, view: View) -> None:
        """Draw what may be wanted next."""

    def start_labels(
        self, specs: Sequence[TileSpec], done: Callable[[Sequence[LabelRuns]], None]
    ) -> None:
        """Find the labels of tiles."""

    def properties(self, runs: LabelRuns, known: Collection[int]) -> dict[int, str]:
        """Return what is said of labels."""

    def ask(self, question: Callable[[], None]) -> None:
        """Answer a question soon."""

    def probe(self, view: View, x: float, y: float) -> Message:
        """Return the message about a point."""


@dataclass
class _Wanted:
    """A view that waits, and the tiles that the browser has by then."""

    view: View
    have: set[str]


@dataclass(eq=False)
class _Frame:
    """A view in flight."""

    number: int
    view: View
    plan: Plan
    have: set[str]
    began: float
    pending: set[str] = field(default_factory=set)
    ready: list[Tile] = field(default_factory=list)
    coarse: set[str] | None = None
    """Coarse tiles that are being drawn, once they were asked for."""
    held_back: list[TileSpec] = field(default_factory=list)
    """Tiles that nobody has begun to draw, until a coarse picture is sent."""
    messages: int = 0
    is_overdue: bool = False
    is_sent: bool = False
    """Whether its last message was sent."""
    is_shown: bool = False
    """Whether the browser has shown what was sent so far, or is given up on."""


class Frames:
    """Sends the tiles of views to one browser, no faster than it shows them.

    A view in flight is never cancelled before something of it was shown: of a fast drag that
    would show nothing. A newer view waits, the newest only. Where tiles take long, or views come
    faster than they can be shown, a coarse picture goes first; once that is shown, a newer view
    may take over.

    All methods can be called from any thread and return at once.

    Parameters
    ----------
    server
        Draws the tiles.
    send
        Sends a message and its buffers; called by one thread at a time, in order.
    call_soon
        Calls a function soon, in the thread that may send (``loop.call_soon_threadsafe``); by
        default at once, in whatever thread it is.
    clock
        Tells the time.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from ngff_xarray.viewing import TileServer, home_view, make_world
    >>> world = make_world(xr.DataArray(np.zeros((40, 60), "u1"), dims=("y", "x")))
    >>> server, sent = TileServer(world), threading.Event()
    >>> def send(message, buffers):
    ...     print(message["type"], message["complete"], len(message["tiles"]))
    ...     sent.set()
    >>> frames = Frames(server, send)
    >>> frames.want(home_view(world)); sent.wait(30)
    frame True 1
    True
    >>> frames.close(), server.close()
    (None, None)
    """

    def __init__(
        self,
        server: Server,
        send: Send,
        *,
        call_soon: CallSoon | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._server = server
        self._send = send
        self._call_soon: CallSoon = call_soon or (lambda action: action())
        if clock is None:
            clock = Timer()
            weakref.finalize(self, clock.stop)  # if nobody closes it
        self._clock: Clock = clock
        self._events: deque[Callable[[], None]] = deque()
        self._events_lock = threading.Lock()
        self._is_handling = False
        self._outbox: deque[tuple[Message, list[bytes]]] = deque()
        self._outbox_lock = threading.RLock()
        self._is_closed = False
        # what follows belongs to whoever handles an event
        self._number = 0
        self._frame: _Frame | None = None
        self._waiting: _Wanted | None = None
        self._latest: View | None = None
        self._held: set[str] = set()
        self._unshown: dict[int, set[str]] = {}
        self._failed: dict[str, tuple[float, str]] = {}
        self._labelled: set[str] = set()
        self._told: set[int] = set()
        self._is_slow = False  # the tiles of the view before this one took long
        self._state = ""
        self._note: str | None = ""
        self._probing = False
        self._next_probe: tuple[float, float] | None = None

    # ---- what the world says ---------------------------------------------------------------

    def want(self, view: View, have: Collection[str] | None = None) -> None:
        """Show a view soon.

        Parameters
        ----------
        have
            The keys of the tiles that the browser has; by default those that were sent to it
            since it last said.
        """
        told = None if have is None else {key for key in have if isinstance(key, str)}
        self._post(partial(self._on_want, view, told))

    def shown(self, number: object) -> None:
        """Know that the browser has painted a message of a frame."""
        self._post(partial(self._on_shown, number))

    def probe(self, x: float, y: float) -> None:
        """Tell what lies at a point of the world, soon; of several questions the newest."""
        self._post(partial(self._on_probe, float(x), float(y)))

    def close(self) -> None:
        """Send nothing more, and end the thread of the clock."""
        self._is_closed = True
        self._server.keep(())
        self._clock.close()

    # ---- one event after another, in whichever thread --------------------------------------

    def _post(self, event: Callable[[], None]) -> None:
        """Handle an event: now, or after the one that another thread is handling."""
        with self._events_lock:
            if self._is_closed:
                return
            self._events.append(event)
            if self._is_handling:
                return
            self._is_handling = True
        while (following := self._next_event()) is not None:
            try:
                following()
            except Exception:  # the next event must be handled all the same
                _log.exception("an event of the viewer failed")

    def _next_event(self) -> Callable[[], None] | None:
        with self._events_lock:
            if self._events and not self._is_closed:
                return self._events.popleft()
            self._is_handling = False
            return None

    def _later(self, delay: float, event: Callable[[], None]) -> None:
        self._clock.later(delay, partial(self._post, event))

    # ---- views -----------------------------------------------------------------------------

    def _on_want(self, view: View, have: set[str] | None) -> None:
        if have is not None:
            if not have:  # a page that was loaded again was told nothing
                self._told.clear()
                self._note = None if self._note else ""
            # tiles of an older state go once the browser has what is on its way
            known = have.union(*self._unshown.values())
            self._held = {key for key in known if key.startswith(self._state)}
        self._latest = view
        self._waiting = _Wanted(view, set(self._held))
        if self._frame is not None:
            self._on_time(self._frame)  # which may be in a hurry now
        self._advance()

    def _advance(self) -> None:
        """Begin the next view, if it is its turn."""
        frame = self._frame
        if frame is not None and not self._is_over(frame):
            return
        self._frame = None
        if self._waiting is not None:
            wanted, self._waiting = self._waiting, None
            # one that had to wait comes from a hand that is faster than we are
            self._begin(wanted, is_dragged=frame is not None)
        elif frame is not None:
            self._settle(frame)

    def _is_over(self, frame: _Frame) -> bool:
        """Tell whether a frame was shown, or enough of it for a newer one to take over."""
        if frame.is_sent or self._waiting is not None:
            if frame.messages:
                return frame.is_shown
            return self._waiting is not None and self._age(frame) >= _LOST
        return False

    def _age(self, frame: _Frame) -> float:
        return self._clock.now() - frame.began + 1e-6

    def _begin(self, wanted: _Wanted, *, is_dragged: bool) -> None:
        try:
            plan = self._server.plan(wanted.view)
        except Exception:
            self._tell("this view cannot be drawn")
            raise
        if plan.state != self._state:
            self._state = plan.state
            self._held = {key for key in self._held if key.startswith(plan.state)}
            self._failed.clear()
            self._labelled.clear()
            self._told.clear()
        have = self._to_skip(wanted.have)
        self._number += 1
        frame = _Frame(self._number, wanted.view, plan, have, self._clock.now())
        self._frame = frame
        missing = [spec for spec in plan.tiles if spec.key not in have]
        frame.pending = {spec.key for spec in missing}
        self._server.keep((*missing, *plan.coarse))
        if not missing:
            self._send_ready(frame)
            return
        frame.held_back = missing
        is_drawn = all(map(self._server.has, missing))
        if not is_drawn and (is_dragged or self._is_slow):
            self._start_coarse(frame)
        if is_drawn or not (is_dragged and frame.coarse):
            self._start_held_back(frame)  # or else a newer view is to take over from this one, too
        self._later(_COARSE_AFTER, partial(self._start_coarse, frame))
        for delay in (_HURRY, _PATIENCE, _LOST):
            self._later(delay, partial(self._on_time, frame))

    def _start_held_back(self, frame: _Frame) -> None:
        specs, frame.held_back = frame.held_back, []
        for spec in specs:
            self._server.start(spec, partial(self._arrived, frame))

    def _to_skip(self, have: set[str]) -> set[str]:
        """Return the tiles not to send: those that the browser has, or that failed just now."""
        now = self._clock.now()
        lately = {key for key, (when, _) in self._failed.items() if now - when <= _RETRY}
        return (have - set(self._failed)) | (lately & self._held)

    # ---- tiles -----------------------------------------------------------------------------

    def _arrived(self, frame: _Frame, tile: Tile) -> None:
        self._post(partial(self._on_tile, frame, tile))

    def _on_tile(self, frame: _Frame, tile: Tile) -> None:
        if frame is not self._frame or tile.spec.key not in frame.pending:
            return  # too late: it is kept for the next time
        frame.pending.discard(tile.spec.key)
        frame.ready.append(tile)
        if tile.is_error:
            self._failed[tile.spec.key] = (self._clock.now(), tile.message)
        else:
            self._failed.pop(tile.spec.key, None)
        if not frame.pending or frame.is_overdue:
            self._send_ready(frame)

    def _start_coarse(self, frame: _Frame) -> None:
        """Draw a coarse picture, if there is one and nothing was sent yet."""
        if frame is not self._frame or frame.messages or frame.coarse is not None:
            return
        specs = [spec for spec in frame.plan.coarse if spec.key not in frame.have | frame.pending]
        frame.coarse = {spec.key for spec in specs}
        for spec in specs:
            self._server.start(spec, partial(self._post_coarse, frame), urgent=True)

    def _post_coarse(self, frame: _Frame, tile: Tile) -> None:
        self._post(partial(self._on_coarse, frame, tile))

    def _on_coarse(self, frame: _Frame, tile: Tile) -> None:
        if frame is not self._frame or not frame.pending:
            return
        frame.coarse = (frame.coarse or set()) - {tile.spec.key}
        if not tile.is_error:
            frame.ready.insert(0, tile)
        frame.is_overdue |= bool(frame.held_back) and not frame.coarse
        self._on_time(frame)

    def _on_time(self, frame: _Frame) -> None:
        """Send what is ready, if it is time for that."""
        if frame is not self._frame or frame.is_sent:
            return
        patience = _PATIENCE if self._waiting is None else _HURRY
        if frame.is_overdue or (not frame.messages and self._age(frame) >= patience):
            frame.is_overdue = True
            if frame.ready:
                self._send_ready(frame)
        if self._age(frame) >= _HURRY and (self._waiting is None or not frame.messages):
            self._start_held_back(frame)
        self._advance()

    def _on_later(self, frame: _Frame) -> None:
        """Send what became ready since the last message."""
        frame.is_overdue = True
        self._on_time(frame)

    # ---- messages --------------------------------------------------------------------------

    def _send_ready(self, frame: _Frame) -> None:
        """Send the tiles that are ready; the last message of a frame says that it is."""
        ready, frame.ready, frame.is_overdue = frame.ready, [], False
        frame.is_sent, frame.is_shown = not frame.pending, False
        groups = list(_packed(ready, lambda tile: len(tile.data))) or [[]]
        for i, group in enumerate(groups):
            message = {
                "type": "frame",
                "frame": frame.number,
                "state": frame.plan.state,
                "complete": frame.is_sent and i == len(groups) - 1,
                "order": list(frame.plan.order),
                "opacity": list(frame.plan.opacity),
                "levels": _levels(frame.plan),
                "tiles": [_described(tile) for tile in group],
            }
            self._put(message, [tile.data for tile in group])
        frame.messages += len(groups)
        self._sent(frame.number, {tile.spec.key for tile in ready})
        lost = partial(self._on_lost, frame, frame.messages)
        if frame.is_sent:
            self._is_slow = self._age(frame) > _PATIENCE
            self._later(_LOST, lost)
        else:
            self._is_slow = True
            self._later(_UNANSWERED, lost)
            self._later(_PATIENCE, partial(self._on_later, frame))

    def _sent(self, number: int, keys: set[str]) -> None:
        """Remember what the browser has, or will have before it says so."""
        self._held |= keys
        self._unshown.setdefault(number, set()).update(keys)
        self._labelled -= keys
        if self._waiting is not None:
            self._waiting.have |= keys

    def _on_shown(self, number: object) -> None:
        for each in [n for n in self._unshown if isinstance(number, int) and n <= number]:
            del self._unshown[each]
        frame = self._frame
        if frame is not None and frame.messages and frame.number == number:
            frame.is_shown = True
            self._advance()

    def _on_lost(self, frame: _Frame, messages: int) -> None:
        """Give up on an answer that did not come."""
        if frame is self._frame and frame.messages == messages and not frame.is_shown:
            self._on_shown(frame.number)

    def _put(self, message: Message, buffers: list[bytes]) -> None:
        self._outbox.append((message, buffers))
        try:
            self._call_soon(self._drain)
        except RuntimeError:  # the loop was closed, and with it the browser's connection
            _log.debug("messages cannot be sent any more", exc_info=True)
            self._is_closed = True

    def _drain(self) -> None:
        with self._outbox_lock:
            while self._outbox and not self._is_closed:
                self._send(*self._outbox.popleft())

    # ---- once all is shown -----------------------------------------------------------------

    def _settle(self, frame: _Frame) -> None:
        """Send what can wait: a note, the labels a little later; and prepare what may come."""
        self._tell(_complaint([self._failed[key][1] for key in _keys(frame) & set(self._failed)]))
        if any(_shows_labels(spec) for spec in self._unlabelled(frame)):
            self._later(_REST, partial(self._on_rest, frame))
        self._server.prefetch(frame.view)

    def _unlabelled(self, frame: _Frame) -> list[TileSpec]:
        known = self._labelled | set(self._failed)
        return [spec for spec in frame.plan.tiles if spec.key not in known]

    def _on_rest(self, frame: _Frame) -> None:
        """Send the labels of a frame that is still the newest."""
        specs = self._unlabelled(frame)
        if specs and self._number == frame.number:
            self._server.start_labels(specs, partial(self._labels_arrived, frame.plan.state))

    def _tell(self, text: str) -> None:
        if text != self._note:
            self._note = text
            self._put({"type": "note", "text": text}, [])

    def _labels_arrived(self, state: str, found: Sequence[LabelRuns]) -> None:
        groups = list(_packed(found, lambda runs: len(runs.lengths) + len(runs.ids)))
        for group in groups:
            self._post(partial(self._on_labels, state, group))

    def _on_labels(self, state: str, group: Sequence[LabelRuns]) -> None:
        if state != self._state:
            return
        self._labelled |= {runs.spec.key for runs in group}
        tiles = [
            {
                "key": runs.spec.key,
                "width": runs.width,
                "height": runs.height,
                "wide": runs.wide,
            }
            for runs in group
        ]
        message = {
            "type": "ids",
            "state": state,
            "tiles": tiles,
            "properties": self._properties(group),
        }
        self._put(message, [part for runs in group for part in (runs.lengths, runs.ids)])

    def _properties(self, group: Sequence[LabelRuns]) -> dict[str, str]:
        """Return what is said of labels that the browser does not know yet, some of it."""
        found: dict[str, str] = {}
        letters = 0
        for runs in group:
            for label, text in self._server.properties(runs, self._told).items():
                if len(found) >= _MOST_PROPERTIES or letters > _MOST_PROPERTY_TEXT:
                    return found
                letters += len(text)
                found[str(label)] = text
                self._told.add(label)
        return found

    # ---- questions -------------------------------------------------------------------------

    def _on_probe(self, x: float, y: float) -> None:
        self._next_probe = (x, y)
        self._ask()

    def _ask(self) -> None:
        if self._probing or self._next_probe is None or self._latest is None:
            return
        (x, y), self._next_probe = self._next_probe, None
        self._probing = True
        view = self._latest

        def answer() -> None:
            try:
                said = self._server.probe(view, x, y)
            except Exception as error:
                _log.debug("a probe failed", exc_info=True)
                said = {"type": "probe", "x": x, "y": y, "values": [], "position": ""}
                said["error"] = type(error).__name__
            self._post(partial(self._on_answer, said))

        self._server.ask(answer)

    def _on_answer(self, said: Message) -> None:
        self._probing = False
        self._put(said, [])
        self._ask()


def _keys(frame: _Frame) -> set[str]:
    return {spec.key for spec in frame.plan.tiles}


def _shows_labels(spec: TileSpec) -> bool:
    return spec.look.layer.kind == "labels" or bool(spec.look.shown.labels)


def _complaint(messages: Sequence[str]) -> str:
    """Return what to say of tiles that could not be read; "" if there are none."""
    if not messages:
        return ""
    count = "a tile" if len(messages) == 1 else f"{len(messages)} tiles"
    return f"{count} could not be read: {messages[0]}"


def _levels(plan: Plan) -> dict[str, float]:
    ranks = (resolution.rank for resolution in plan.resolutions)
    return dict(zip(plan.order, ranks, strict=True))


def _described(tile: Tile) -> Message:
    """Return what a message says of a tile; its bytes are a buffer."""
    spec = tile.spec
    said: Message = {
        "key": spec.key,
        "layer": spec.look.layer.name,
        "level": spec.resolution.rank,
        "matrix": list(spec.matrix),
        "width": spec.width,
        "height": spec.height,
        "format": tile.format,
    }
    return {**said, "message": tile.message} if tile.is_error else said


def _packed(items: Iterable[Any], size: Callable[[Any], int]) -> Iterator[list[Any]]:
    """Yield items in groups that fit into a message each, in their order.

    Examples
    --------
    >>> list(_packed([600_000, 300_000, 100_000], lambda size: size))
    [[600000, 300000], [100000]]
    """
    group: list[Any] = []
    total = 0
    for item in items:
        if group and total + size(item) > MOST_BYTES:
            yield group
            group, total = [], 0
        group.append(item)
        total += size(item)
    if group:
        yield group
