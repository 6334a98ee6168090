"""The canvas of the viewers: a widget that shows the tiles it is sent, and says where it looks.

It knows nothing of images. Whoever fills it listens by ``on_msg`` and answers by ``send``.

Messages of the browser:

- ``{"type": "want", "view": [cx, cy, upp], "size": [w, h], "ratio": r, "have": [key, ...], "near":
  bool, "told": n}``: what it shows: the world at the middle, world units a CSS pixel, CSS pixels,
  device pixels a CSS pixel, the keys of the tiles of the newest state that it holds (none, if the
  page is new), whether the page comes from its own machine, and ``told`` as it was then. Each is to
  be answered by a frame, an empty one if nothing is missing; until the first message of that was
  shown, or two seconds have passed, the browser sends no other, and then the newest.
- ``{"type": "shown", "frame": n}``: a message of the frame was painted.
- ``{"type": "probe", "x": x, "y": y}``: what lies there? At most one is in flight.
- ``{"type": "click", "x": x, "y": y}``: a click, or Enter, with the tool ``"pan"``.

Messages to the browser:

- ``{"type": "frame", "frame": n, "state": s, "complete": bool, "order": [layer, ...], "tiles":
  [{"key", "layer", "level", "matrix", "width", "height", "format", "message"}, ...]}`` and a buffer
  a tile: ``"jpeg"``, ``"png"``, or empty for an ``"error"``; buffers beyond those mean nothing. The
  matrix takes (column, row) of the picture, from the outer corner of its first pixel, to the world,
  in the order of a canvas's ``setTransform``. Optional are ``"levels": {layer: level}``, what the
  view calls for, and ``"opacity": [0 to 1, ...]``, in the order of the layers. Tiles of an older
  state stay below until a frame is complete.
- ``{"type": "ids", "state": s, "tiles": [{"key", "width", "height", "wide"}, ...], "properties":
  {id: text}}`` and two buffers a tile: run lengths (uint16) and the label of each run (uint32, or
  uint64 if wide), little-endian, row by row, each as a zlib stream.
- ``{"type": "probe", "x": x, "y": y, "values": [[name, text], ...], "position": text}``.
- ``{"type": "note", "text": text}``: a line below the canvas.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import anywidget
import traitlets

_HERE = Path(__file__).parent


def _synced(trait: Any) -> Any:
    return trait.tag(sync=True)


def _numbers(default: list[float] | None, count: int) -> Any:
    none = default is None
    return _synced(
        traitlets.List(traitlets.Float(), default, minlen=count, maxlen=count, allow_none=none)
    )


class Canvas(anywidget.AnyWidget):
    """A canvas over a world of two axes.

    A box around it with the class ``ngff-whole`` becomes the full screen with it.

    Parameters
    ----------
    view
        ``[x, y, upp]``: the world at the middle of the canvas and world units a CSS pixel; None
        shows everything.
    told
        How often the kernel has set ``view``: what the browser says with an older one, it said
        before it heard of that.
    size
        Width and height in CSS pixels, as the browser has them; ``[0, 0]`` while nobody sees it.
    home
        ``[x0, y0, x1, y1]``: the outer edges of everything, in the world.
    units
        Symbols of the units that lengths are shown in, and how many world units each is long; none
        for pixels.
    axes
        Names of the axes to the right and downwards.
    tool
        What a drag or a click does: ``"pan"``, ``"rectangle"``, ``"polygon"`` or ``"select"``.
    roi
        The region drawn, in the world: ``{"kind": "rectangle", "points": [[x0, y0], [x1, y1]]}`` or
        ``{"kind": "polygon", "points": [[x, y], ...]}``, or None.
    selection
        The label ids selected, as text: JavaScript's numbers end at 2⁵³.
    height
        CSS pixels; the width is that of the page.
    label
        What the canvas shows, for screen readers.
    crosshair
        A point of the world to mark, or None.
    smooth
        Whether pixels are smoothed when they are larger than those of the screen.
    """

    _esm: ClassVar[Path] = _HERE / "canvas.js"
    _css: ClassVar[Path] = _HERE / "canvas.css"

    view = _numbers(None, 3)
    told = _synced(traitlets.Int(0))
    size = _numbers([0, 0], 2)
    home = _numbers([0, 0, 1, 1], 4)
    units = _synced(traitlets.List())
    axes = _synced(traitlets.List(traitlets.Unicode(), ["x", "y"], minlen=2, maxlen=2))
    tool = _synced(traitlets.Enum(["pan", "rectangle", "polygon", "select"], "pan"))
    roi = _synced(traitlets.Dict(default_value=None, allow_none=True))
    selection = _synced(traitlets.List(traitlets.Unicode()))
    height = _synced(traitlets.Int(480, min=60))
    label = _synced(traitlets.Unicode("image"))
    crosshair = _numbers(None, 2)
    smooth = _synced(traitlets.Bool(False))
