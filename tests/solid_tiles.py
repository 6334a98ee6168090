"""A kernel's side of a Canvas for tests: an image of tiles in one colour each."""

from __future__ import annotations

import asyncio
import io
import math
import time
import zlib
from typing import Any

import numpy as np
from PIL import Image

from ngff_xarray.widgets.canvas import Canvas

EDGE = 256  # pixels of a tile
LEVELS = 3  # of 1, 2 and 4 µm a pixel
EXTENT = 1024.0  # µm: 4 x 4, 2 x 2 and 1 tiles


def color(state: str, level: int, column: int, row: int) -> tuple[int, int, int]:
    """The colour of a tile."""
    base = 60 * (level + 1)
    rgb = (base, 40 + 50 * column, 40 + 50 * row)
    return rgb if state == "0" else (rgb[1], rgb[2], rgb[0])


def label_of(column: int, row: int) -> int:
    """The label in the middle of a tile of the finest level; one needs 64 bits."""
    return 2**60 + 1 if (column, row) == (1, 1) else 1 + 4 * row + column


class SolidTiles:
    """Answers a canvas: coarse tiles first, one question at a time, the newest waiting.

    Parameters
    ----------
    canvas
        Where the tiles go.
    delay
        Seconds that each answer takes.
    """

    def __init__(self, canvas: Canvas, delay: float = 0.0) -> None:
        self.canvas, self.delay, self.state = canvas, delay, "0"
        self.blocked = 0.0  # seconds for which a message keeps the kernel from anything else
        self.broken: set[str] = set()  # keys of tiles that cannot be read
        self.wants: list[dict[str, Any]] = []
        self.shown: list[int] = []
        self.probes: list[dict[str, Any]] = []
        self.frame = 0
        canvas.home = [0, 0, EXTENT, EXTENT]
        canvas.units = [["nm", 0.001], ["µm", 1.0], ["mm", 1000.0]]
        canvas.on_msg(self.receive)

    def receive(self, _: object, message: dict[str, Any], buffers: object) -> None:
        """Take a message of the browser."""
        time.sleep(self.blocked)
        if message["type"] == "want":
            self.wants.append(message)
            asyncio.get_event_loop().call_later(self.delay, self.answer, message)
        elif message["type"] == "shown":
            self.shown.append(message["frame"])
        elif message["type"] == "probe":
            self.probes.append(message)
            x, y = message["x"], message["y"]
            position = f"x {x:.1f} µm, y {y:.1f} µm, z 3 µm"
            values = [["DAPI", f"{x:.0f}"], ["GFP", f"{y:.0f}"]]
            answer = {"type": "probe", "x": x, "y": y, "values": values, "position": position}
            self.canvas.send(answer)

    def show(self, state: str) -> None:
        """Show another state, as a slider would."""
        self.state = state
        self.answer({**self.wants[-1], "have": []})

    def answer(self, want: dict[str, Any]) -> None:
        """Send a frame: the coarsest level at once, then the one that is called for, then ids."""
        self.frame += 1
        (cx, cy, upp), (w, h) = want["view"], want["size"]
        pixel = upp / want["ratio"]
        level = max((i for i in range(LEVELS) if 2**i <= pixel * 1.001), default=0)
        reach = (cx - w / 2 * upp, cy - h / 2 * upp, cx + w / 2 * upp, cy + h / 2 * upp)
        if not want["have"] and level != LEVELS - 1:
            self._send([(LEVELS - 1, 0, 0)], complete=False)
        wanted = _tiles(level, reach)
        news = [each for each in wanted if self._key(*each) not in want["have"]]
        self._send(news, complete=True, levels={"image": level})
        self._send_ids(news)

    def _key(self, level: int, column: int, row: int) -> str:
        return f"{level}/{column}/{row}"

    def _send(self, tiles: list[tuple[int, int, int]], *, complete: bool, **more: Any) -> None:
        entries, buffers = [], []
        for level, column, row in tiles:
            key, pixel = self._key(level, column, row), 2.0**level
            place = [pixel, 0, 0, pixel, column * EDGE * pixel, row * EDGE * pixel]
            entry = {"key": key, "layer": "image", "level": level, "matrix": place}
            entry |= {"width": EDGE, "height": EDGE, "format": "png"}
            if key in self.broken:
                entry |= {"format": "error", "message": f"chunk <b>{key}</b> is truncated"}
            entries.append(entry)
            broken = key in self.broken
            buffers.append(b"" if broken else _png(color(self.state, level, column, row)))
        frame = {"type": "frame", "frame": self.frame, "state": self.state, "order": ["image"]}
        self.canvas.send({**frame, "complete": complete, "tiles": entries, **more}, buffers)

    def _send_ids(self, tiles: list[tuple[int, int, int]]) -> None:
        entries, buffers, properties = [], [], {}
        for level, column, row in tiles:
            wide = level == 0 and (column, row) == (1, 1)
            ids = np.zeros((EDGE, EDGE), np.uint64 if wide else np.uint32)
            if level == 0:
                ids[64:192, 64:192] = label_of(column, row)
                properties[str(label_of(column, row))] = f"area {128 * 128} <i>px</i>"
            runs, values = _runs(ids.ravel())
            key = self._key(level, column, row)
            entries.append({"key": key, "width": EDGE, "height": EDGE, "wide": wide})
            buffers += [runs, values]
        message = {"type": "ids", "state": self.state, "tiles": entries, "properties": properties}
        self.canvas.send(message, buffers)


def _tiles(level: int, reach: tuple[float, float, float, float]) -> list[tuple[int, int, int]]:
    step = EDGE * 2**level
    count = round(EXTENT / step)
    x0, y0, x1, y1 = (value / step for value in reach)
    columns = range(max(0, math.floor(x0)), min(count, math.ceil(x1)))
    rows = range(max(0, math.floor(y0)), min(count, math.ceil(y1)))
    return [(level, column, row) for row in rows for column in columns]


def _png(rgb: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (EDGE, EDGE), rgb).save(stream, "png")
    return stream.getvalue()


def _runs(ids: np.ndarray) -> tuple[bytes, bytes]:
    starts = np.flatnonzero(np.diff(ids, prepend=ids[:1] + 1))
    lengths = np.diff(starts, append=ids.size)
    if lengths.max() > 65535:  # the tile is one run
        starts, lengths = np.array([0, 32768]), np.array([32768, 32768])
    little = ids.dtype.newbyteorder("<")
    return zlib.compress(lengths.astype("<u2")), zlib.compress(ids[starts].astype(little))
