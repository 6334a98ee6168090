"""How long a view takes from `want` to its last message, beside an image of the same size.

Run it as ``python tests/benchmarks/bench_tiles.py [folder]``. The view has 1024 x 1024 pixels, two
channels of uint16 and a label image over them, from a local pyramid of chunks of 512. *cold* moves
to a plane that was never read, *warm* to one whose chunks are kept but not its tiles, *kept* to
one whose tiles are kept. Medians.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ngff_xarray.viewing import Frames, TileServer, View, home_view, make_world
from ngff_xarray.viewing.encoding import encode

SIZE, DEPTH = 1024, 24
PAINT = 0.020  # seconds that the browser takes


def nuclei() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A volume of noisy round cells in two channels, and their labels."""
    y, x = np.mgrid[:SIZE, :SIZE]
    pitch, radius = 40, 17
    distance = np.hypot(y % pitch - pitch / 2, x % pitch - pitch / 2)
    ids = y // pitch * (SIZE // pitch + 1) + x // pitch + 1
    bright = 200 + 3000 * np.exp(-((distance / radius) ** 2))
    rng = np.random.default_rng(0)
    planes = [rng.poisson(np.roll(bright, 9 * c, (0, 1))) for c in (0, 1)]
    image = np.stack([np.roll(plane, 3 * z, 0) for plane in planes for z in range(DEPTH)])
    labels = np.where(distance < radius, ids, 0)
    volume = np.stack([np.roll(labels, 3 * z, 0) for z in range(DEPTH)])
    return image.reshape(2, DEPTH, SIZE, SIZE).astype("u2"), volume.astype("u4")


def write(path: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from stores import write_image

    image, labels = nuclei()
    write_image(
        path,
        axes="czyx",
        data=image,
        chunks=(1, 1, 512, 512),
        omero={"channels": [{"label": "DAPI", "color": "0000FF"}, {"label": "GFP"}]},
        labels={"nuclei": {"data": labels}},
    )


class Browser:
    """Paints what it is sent, and answers."""

    def __init__(self, paint: float = 0.0) -> None:
        self.frames: Frames | None = None
        self.paint = paint
        self.complete = threading.Event()
        self.messages: list[tuple[float, dict[str, Any], int]] = []

    def send(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        nbytes = sum(map(len, buffers))
        self.messages.append((time.perf_counter(), message, nbytes))
        if message["type"] == "frame":
            timer = threading.Timer(self.paint, self.painted, [message])
            timer.daemon = True
            timer.start()

    def painted(self, message: dict[str, Any]) -> None:
        assert self.frames is not None
        self.frames.shown(message["frame"])
        if message["complete"]:
            self.complete.set()


def timed(browser: Browser, view: View) -> tuple[float, int]:
    """Milliseconds from wanting a view to its last message, and bytes of all its messages."""
    assert browser.frames is not None
    browser.complete.clear()
    before = len(browser.messages)
    start = time.perf_counter()
    browser.frames.want(view, ())
    assert browser.complete.wait(30)
    sent = [each for each in browser.messages[before:] if each[1]["type"] == "frame"]
    last = next(at for at, message, _ in sent if message["complete"])
    return 1e3 * (last - start), sum(nbytes for _, _, nbytes in sent)


def report(name: str, runs: list[tuple[float, int]]) -> None:
    times = sorted(ms for ms, _ in runs)
    nbytes = statistics.median(n for _, n in runs)
    p95 = times[int(0.95 * (len(times) - 1))]
    print(
        f"  {name:<34} {statistics.median(times):8.1f} ms   p95 {p95:8.1f}   {nbytes / 1e3:8.0f} kB"
    )


def alone(server: TileServer, view: View) -> tuple[float, int]:
    """Milliseconds to draw and encode a view, and its bytes."""
    start = time.perf_counter()
    drawn = [encode(server._painter.draw(spec), lossless=False) for spec in server.plan(view).tiles]
    return 1e3 * (time.perf_counter() - start), sum(len(data) for _, data in drawn)


def drag(browser: Browser, move: Callable[[int], View]) -> None:
    """40 moves in 600 ms: how many frames were seen, and how late the last one was."""
    assert browser.frames is not None
    before = len(browser.messages)
    start = time.perf_counter()
    for i in range(40):
        time.sleep(max(0.0, start + i * 0.015 - time.perf_counter()))
        browser.frames.want(move(i), ())
    last = time.perf_counter()
    time.sleep(2)
    sent = [each for each in browser.messages[before:] if each[1]["type"] == "frame"]
    seen = {message["frame"] for at, message, _ in sent if at <= last}
    settled = max(at for at, message, _ in sent if message["complete"])
    after = 1e3 * (settled - last)
    print(f"  40 moves: {len(seen)} frames seen, settled {after:.0f} ms after the last")


def main(folder: Path) -> None:
    path = folder / "bench_tiles.ome.zarr"
    if not path.exists():
        write(path)
    tree = xr.open_datatree(path)
    world = make_world(tree)
    server = TileServer(world)
    server.prefetch = lambda view: None  # type: ignore[method-assign]  # nothing is to be ready
    browser = Browser()
    browser.frames = Frames(server, browser.send)
    home = home_view(world, (SIZE, SIZE))
    timed(browser, home.at(z=0.0))
    planes = [home.at(z=2.0 * z) for z in range(1, DEPTH)]
    print(f"{SIZE} x {SIZE}, 2 channels of uint16 and labels, {len(server.plan(home).tiles)} tiles")
    report("cold: chunks are read", [timed(browser, view) for view in planes])
    (name,) = (layer.name for layer in world.layers)
    brighter = [view.with_channel(name, "DAPI", window=(0.0, 2000.0)) for view in planes]
    report("warm: chunks are kept", [timed(browser, view) for view in brighter])
    report("  the same in one thread, no server", [alone(server, view) for view in brighter[::2]])
    report("kept: tiles are kept", [timed(browser, view) for view in brighter])
    lossless = [view.moved(scale=view.scale) for view in planes[:5]]
    lossless = [View(**{**vars(view), "lossless": True}) for view in lossless]
    report("lossless, chunks are kept", [timed(browser, view) for view in lossless])
    browser.paint = PAINT
    print(f"a browser that paints for {1e3 * PAINT:.0f} ms")
    drag(browser, lambda i: home.at(z=2.0 * (i % DEPTH)).with_layer(name, opacity=1 - i / 1000))
    drag(browser, lambda i: brighter[0].with_channel(name, "DAPI", window=(0.0, 900.0 + i)))
    chunks, tiles = server.chunks.cache.nbytes / 1e6, server.tiles.nbytes / 1e6
    print(f"caches: {chunks:.0f} MB of chunks, {tiles:.1f} MB of tiles")
    browser.frames.close()
    server.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
