"""Slider move to pixels on screen, in Chromium: the viewer beside what else shows a stack.

Run it as ``python tests/benchmarks/bench_viewer.py [moves]``, where the extra ``.[browser]`` and
Chromium are; stackview and matplotlib take part if they are installed. All are measured in one run,
in one JupyterLab, on 1024 x 1024 pixels: two channels of uint16 and a label image over them, from
a local pyramid of chunks of 512 (stackview: one channel, in memory, without labels).

A move is a key on the slider's handle, as of a hand; its end is the animation frame in which the
patch in the middle of the picture has the brightness of the plane. *bytes* is what the page's
sockets received a move. *round trip* is a message to an empty handler, answered with as many bytes
as a frame has.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bench_tiles import DEPTH, SIZE, nuclei
from jupyter_apps import App, chromium, new_page, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BRIGHT = 4000  # the end of both windows
STEP = 160  # of the patch's value, from plane to plane
PATCH = slice(SIZE // 2 - 64, SIZE // 2 + 64)

ECHO = """\
import anywidget
class Echo(anywidget.AnyWidget):
    _esm = '''export default { render({ model }) {
        window.ask = (size) => new Promise((answered) => {
            const start = performance.now();
            const take = () => {
                model.off("msg:custom", take);
                requestAnimationFrame(() => answered(performance.now() - start));
            };
            model.on("msg:custom", take);
            model.send({ size });
        });
    } }'''
    def __init__(self):
        super().__init__()
        self.on_msg(lambda _, message, __: self.send({}, [bytes(message["size"])]))
echo = Echo()
"""
OPEN = """\
import xarray as xr
tree = xr.open_datatree({path})
"""
OURS = """\
from ngff_xarray.widgets.viewer import view
from ipywidgets import VBox
viewer = view(tree, labels=True, height=1024, z=0)
VBox([viewer, echo])"""
STACKVIEW = """\
import stackview
from ipywidgets import VBox
stack = tree["0/image"].isel(c=1).values
VBox([stackview.slice(stack, 0, display_min=0, display_max=4000), echo])"""
MATPLOTLIB = """\
%matplotlib inline
import numpy as np
from ipywidgets import VBox, interact, IntSlider
import matplotlib.pyplot as plt
image, ids = tree["0/image"], tree["labels/nuclei/0/labels"]
colors = np.random.default_rng(0).random((int(ids.max()) + 1, 3))
def show(z):
    blue, green = (image.isel(c=c, z=z).values / 4000 for c in (0, 1))
    rgb = np.clip(np.stack([0 * green, green, blue], -1), 0, 1)
    labels = ids.isel(z=z).values
    there = labels > 0
    rgb[there] = (rgb[there] + colors[labels[there]]) / 2
    plt.figure(figsize=(10.24, 10.24), dpi=100)
    plt.axes((0, 0, 1, 1)).imshow(rgb)
    plt.axis("off")
    plt.show()
interact(show, z=IntSlider(0, 0, image.sizes["z"] - 1))
echo"""

# what a page measures: the plane that is seen, and how long a key takes to be
SCRIPT = """() => {
    const scratch = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    scratch.canvas.width = scratch.canvas.height = 1;
    const find = () => document.querySelector(".ngff-tiles")
        ?? [...document.querySelectorAll(".jp-OutputArea canvas, .jp-OutputArea img")].at(-1);
    const handle = () => // of our viewer the last slider: those of windows come before
        [...document.querySelectorAll(".ngff-whole > .widget-hbox .noUi-handle")].at(-1)
        ?? document.querySelector(".noUi-handle");
    window.plane = () => {
        const shown = find();
        const [w, h] = [shown?.naturalWidth ?? shown?.width, shown?.naturalHeight ?? shown?.height];
        if (!w || !h) return -1;
        scratch.drawImage(shown, w / 2 - 8, h / 2 - 8, 16, 16, 0, 0, 1, 1);
        return Math.round(scratch.getImageData(0, 0, 1, 1).data[1] * BRIGHT / 255 / STEP);
    };
    window.press = (key) =>
        handle().dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    window.seen = (met, limit = 20000) => new Promise((done) => {
        const start = performance.now();
        const look = () => {
            const passed = performance.now() - start;
            if (met(plane()) || passed > limit) done(passed);
            else requestAnimationFrame(look);
        };
        look();
    });
    window.move = (key, expected) => { press(key); return seen((z) => z === expected); };
    window.drag = async (moves, last) => {
        let [frames, stop, before] = [0, false, plane()];
        const watch = () => {
            const now = plane();
            if (now !== before) frames++;
            before = now;
            if (!stop) requestAnimationFrame(watch);
        };
        watch();
        const start = performance.now();
        for (let i = 0; i < moves; i++) {
            const wait = start + i * 15 - performance.now();
            if (wait > 0) await new Promise((next) => setTimeout(next, wait));
            press(i < last ? "ArrowRight" : "ArrowLeft");
        }
        const passed = performance.now() - start;
        const during = frames;
        const settle = await seen((z) => z === last - (moves - last));
        stop = true;
        return [during, settle, passed];
    };
}"""


def write(path: Path) -> None:
    """Write nuclei with a patch in the middle whose brightness says the plane."""
    from stores import write_image

    image, labels = nuclei()
    image = np.minimum(image, BRIGHT)
    image[0, :, PATCH, PATCH] = 0
    image[1, :, PATCH, PATCH] = STEP * np.arange(DEPTH)[:, None, None]
    labels[:, PATCH, PATCH] = 0
    window = {"min": 0, "max": BRIGHT, "start": 0, "end": BRIGHT}
    colors = {"DAPI": "0000FF", "GFP": "00FF00"}
    write_image(
        path,
        axes="czyx",
        data=image,
        chunks=(1, 1, 512, 512),
        scale=(1, 1, 1, 1),
        omero={
            "channels": [
                {"label": label, "color": color, "active": True, "window": window}
                for label, color in colors.items()
            ]
        },
        labels={"nuclei": {"data": labels}},
    )


# in the page: told of every message, Playwright would take a third of the processors
COUNT = """
    window.received = 0;
    window.WebSocket = class extends WebSocket {
        constructor(...where) {
            super(...where);
            this.addEventListener("message", ({ data }) => {
                window.received += data.byteLength ?? data.length;
            });
        }
    };
"""


class Opened:
    """A page with one way to show the stack."""

    def __init__(self, page: Page) -> None:
        self.page = page
        page.add_init_script(COUNT)

    @property
    def received(self) -> int:
        """Bytes that the page was sent so far."""
        return int(self.page.evaluate("received"))

    def start(self) -> None:
        script = SCRIPT.replace("BRIGHT", str(BRIGHT)).replace("STEP", str(STEP))
        self.page.evaluate(script)
        wait_for(lambda: self.page.evaluate("plane()") == 0, "the first plane", seconds=60)
        wait_for(lambda: self.page.evaluate("typeof ask === 'function'"), "an echo", seconds=60)
        self.page.wait_for_timeout(1000)

    def moves(self, count: int) -> tuple[list[float], float]:
        """Milliseconds of each move, there and back again, and bytes a move."""
        planes = [*range(1, DEPTH), *range(DEPTH - 2, -1, -1)]
        times = []
        before, now = self.received, 0
        for i in range(count):
            to = planes[i % len(planes)]
            key = "ArrowRight" if to > now else "ArrowLeft"
            times.append(self.page.evaluate("([key, to]) => move(key, to)", [key, to]))
            now = to
            self.page.wait_for_timeout(60)
        nbytes = (self.received - before) / count
        self.page.evaluate("() => press('Home')")
        wait_for(lambda: self.page.evaluate("plane()") == 0, "the first plane", seconds=60)
        self.page.wait_for_timeout(500)
        return times, nbytes

    def drag(self) -> tuple[float, float, float]:
        """Frames seen in 40 moves of 15 ms, how late the last one was, and how long it took."""
        found = self.page.evaluate(f"() => drag(40, {DEPTH - 1})")
        self.page.evaluate("() => press('Home')")
        wait_for(lambda: self.page.evaluate("plane()") == 0, "the first plane", seconds=60)
        self.page.wait_for_timeout(500)
        frames, settle, passed = found
        return frames, settle, passed

    def answers(self, size: int, count: int, *, busy: bool = False) -> list[float]:
        """Milliseconds of round trips; if busy, while the slider moves."""
        if busy:
            self.page.evaluate(
                """() => { let right = true, n = 0; window.moving = setInterval(() => {
                    press(right ? "ArrowRight" : "ArrowLeft");
                    if (++n % 20 === 0) right = !right;
                }, 30); }"""
            )
        times = []
        for _ in range(count):
            times.append(self.page.evaluate("(size) => ask(size)", size))
            self.page.wait_for_timeout(20)
        self.page.evaluate("() => clearInterval(window.moving)")
        return times


@contextmanager
def opened(browser: Browser, app: App, name: str, *cells: str) -> Iterator[Opened]:
    page, _ = new_page(browser, viewport={"width": 1750, "height": 1500})
    found = Opened(page)
    app.open(page, *cells, name=name)
    found.start()
    yield found
    page.context.close()


def said(name: str, times: Sequence[float], nbytes: float | None = None) -> None:
    ordered = sorted(times)
    p95 = ordered[round(0.95 * (len(ordered) - 1))]
    size = "" if nbytes is None else f"{nbytes / 1e3:9.0f} kB"
    print(f"  {name:<44} {statistics.median(times):8.0f} ms   p95 {p95:6.0f}{size}", flush=True)


def main(folder: Path, count: int) -> None:
    path = folder / "bench_viewer.ome.zarr"
    write(path)
    setup = ECHO + OPEN.format(path=json.dumps(str(path)))
    ways: dict[str, Any] = {"ngff_xarray": OURS}
    ways |= {"stackview": STACKVIEW} if find_spec("stackview") else {}
    ways |= {"matplotlib interact": MATPLOTLIB} if find_spec("matplotlib") else {}
    print(f"{SIZE} x {SIZE}, {count} moves each: median, p95, bytes received a move")
    with chromium(folder) as browser, App("lab", folder / "lab") as app:
        for name, cell in ways.items():
            with opened(browser, app, name.split()[0], setup, cell) as page:
                page.moves(4)
                times, nbytes = page.moves(count)
                said(name, times, nbytes)
                if cell is OURS:
                    said("round trip of as many bytes", page.answers(int(nbytes), count))
                    said("round trip of 64 kB", page.answers(2**16, count))
                    said("the same while tiles are drawn", page.answers(2**16, count, busy=True))
                page.page.wait_for_timeout(1000)
                for _ in range(3):
                    frames, settle, passed = page.drag()
                    print(
                        f"  {name}: drag of 40 moves in {passed:.0f} ms: {frames:.0f} frames, "
                        f"settled {settle:.0f} ms after the last",
                        flush=True,
                    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 40)
