"""A canvas on a plane of a world: what it shows, and what comes back from it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from ngff_xarray.errors import SelectionError
from ngff_xarray.viewing import Frames, TileServer, View, World, home_view, scale_units
from ngff_xarray.widgets.canvas import Canvas
from ngff_xarray.widgets.state import STATE

_log = logging.getLogger(__name__)

DEFAULT_SIZE = (720.0, 480.0)  # CSS pixels, before a browser says

# Jupyter's server leaves Nagle's algorithm on: between two programs of one machine, what fills no
# packet of 64 kB waits some 40 ms for an acknowledgement of whatever was sent before it
_PACKET = 2**16


def call_soon() -> Callable[[Callable[[], None]], None] | None:
    """Return what calls a function on the event loop of the notebook; None outside of one.

    Messages are sent from there: a browser's connection belongs to one thread.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None

    def call(act: Callable[[], None]) -> None:
        loop.call_soon_threadsafe(act)

    return call


class Pane:
    """A canvas and what it is sent.

    Parameters
    ----------
    world
        The layers, on the plane that the canvas shows.
    server
        Draws its tiles.
    label
        What it shows, for screen readers.
    height
        CSS pixels.
    moved
        Is called with the new view after the browser moved it.
    clicked
        Is called with a point of the world.
    """

    def __init__(
        self,
        world: World,
        server: TileServer,
        *,
        label: str,
        height: int,
        moved: Callable[[View], None],
        clicked: Callable[[float, float], None],
    ) -> None:
        self.world = world
        self._moved = moved
        self._clicked = clicked
        self.view = home_view(world, (DEFAULT_SIZE[0], float(height)))
        self.canvas = Canvas(
            home=list(world.extent or (0.0, 0.0, 1.0, 1.0)),
            units=[list(pair) for pair in scale_units(world.unit)],
            axes=[world.right, world.down],
            label=label,
            height=height,
        )
        self.server = server
        self._is_near = False  # the browser is on the kernel's machine, as far as it knows
        self._is_seen = False  # by anyone: a cell that was run again leaves its viewer behind
        self._frames = Frames(server, self._send, call_soon=call_soon())
        self.canvas.on_msg(self._on_message)
        self.canvas.observe(self._on_size, "size")

    def show(self, view: View) -> None:
        """Show a view; where the browser looks is changed only if the view says otherwise."""
        if (view.center, view.scale) != (self.view.center, self.view.scale):
            with self.canvas.hold_sync():
                self.canvas.view = [*view.center, view.scale]
                self.canvas.told += 1
        if view != self.view:
            self.view = view
            if self._is_seen:
                self._frames.want(view)

    def refresh(self) -> None:
        """Send what the view consists of by now; tiles that are the same are not sent again."""
        self._frames.want(self.view)

    def close(self) -> None:
        """Send nothing more."""
        self._frames.close()
        self.canvas.layout.close()
        self.canvas.close()

    def _send(self, message: Mapping[str, Any], buffers: list[bytes]) -> None:
        missing = _PACKET - sum(map(len, buffers))
        if self._is_near and message["type"] == "frame" and missing > 0:
            buffers = [*buffers, bytes(missing)]
        self.canvas.send(message, buffers)

    def _on_message(self, canvas: Canvas, message: Any, buffers: Any) -> None:
        kind = message.get("type") if isinstance(message, dict) else None
        handle = _MESSAGES.get(kind) if isinstance(kind, str) else None
        if handle is None:
            return
        try:
            with STATE:
                handle(self, message)
        except (LookupError, TypeError, ValueError):  # no message of our canvas
            _log.debug("a message is not understood: %r", message, exc_info=True)

    def _on_size(self, change: Any) -> None:
        self._is_seen = self._is_seen and all(change["new"])

    def _on_want(self, message: Mapping[str, Any]) -> None:
        x, y, scale = message["view"]
        if message.get("told", self.canvas.told) != self.canvas.told:
            (x, y), scale = self.view.center, self.view.scale  # of which it had not heard yet
        self._is_near = message.get("near") is True
        try:
            view = self.view.moved((x, y), scale, message["size"], message["ratio"])
        except SelectionError:  # a canvas that is not laid out yet
            return
        self.view = view
        self._is_seen = True
        self._frames.want(view, message["have"])
        self._moved(view)

    def _on_shown(self, message: Mapping[str, Any]) -> None:
        self._frames.shown(message["frame"])

    def _on_probe(self, message: Mapping[str, Any]) -> None:
        self._frames.probe(message["x"], message["y"])

    def _on_click(self, message: Mapping[str, Any]) -> None:
        self._clicked(float(message["x"]), float(message["y"]))


_MESSAGES: Mapping[str, Callable[[Pane, Mapping[str, Any]], None]] = {
    "want": Pane._on_want,
    "shown": Pane._on_shown,
    "probe": Pane._on_probe,
    "click": Pane._on_click,
}
