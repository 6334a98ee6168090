"""How long a picture takes: ours beside the obvious way, interleaved, medians in milliseconds.

Run it as ``python tests/benchmarks/bench_render.py``; for one core, below ``taskset -c 0``.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ngff_xarray.render import (
    auto_window,
    colormap,
    composite,
    label_colors,
    overlay_labels,
    png,
)

SIZE = 1024
ROUNDS = 15
COLORS = [(0, 255, 255), (255, 0, 255), (255, 255, 0)]
Ways = Mapping[str, Callable[[], object]]


def nuclei() -> tuple[NDArray[np.uint16], NDArray[np.uint32]]:
    """A plane of noisy round cells, and their labels."""
    y, x = np.mgrid[:SIZE, :SIZE]
    pitch, radius = 40, 17
    distance = np.hypot(y % pitch - pitch / 2, x % pitch - pitch / 2)
    ids = y // pitch * (SIZE // pitch + 1) + x // pitch + 1
    brightness = 200 + 3000 * np.exp(-((distance / radius) ** 2))
    plane = np.random.default_rng(0).poisson(brightness).astype(np.uint16)
    return plane, np.where(distance < radius, ids, 0).astype(np.uint32)


def naive_composite(
    planes: list[NDArray[np.uint16]], windows: list[tuple[float, float]]
) -> NDArray[np.uint8]:
    total = np.zeros((*planes[0].shape, 3))
    for plane, color, (start, end) in zip(planes, COLORS, windows, strict=True):
        share = np.clip((plane.astype(float) - start) / (end - start), 0, 1)
        total += share[..., np.newaxis] * np.array(color)
    return np.rint(np.clip(total, 0, 255)).astype(np.uint8)


def naive_overlay(rgb: NDArray[np.uint8], labels: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """One boolean mask over all the labels; one for each of them takes seconds."""
    shown = labels != 0
    out = rgb.copy()
    colors = label_colors(np.arange(labels.max() + 1))[..., :3]
    out[shown] = np.rint(0.5 * rgb[shown] + 0.5 * colors[labels[shown]])
    return out


def by_pillow(rgb: NDArray[np.uint8], level: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "png", compress_level=level)
    return buffer.getvalue()


def medians(ways: Ways) -> dict[str, tuple[float, float]]:
    """Milliseconds of each way, the median and the best, all of them run in turn."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: (statistics.median(values), min(values)) for name, values in times.items()}


def report(title: str, ways: Ways) -> None:
    print(title)
    for name, (median, best) in medians(ways).items():
        print(f"  {name:<34} {median:8.2f} ms, best {best:8.2f}")


def main() -> None:
    plane, labels = nuclei()
    planes = [np.roll(plane, shift, axis=(0, 1)) for shift in (0, 9, 18)]
    floats = [plane.astype(np.float32) for plane in planes]
    windows = [auto_window(plane) for plane in planes]
    rgb = composite(planes, COLORS, windows)
    report(
        f"3 channels of {SIZE} x {SIZE} to RGB",
        {
            "composite, uint16": lambda: composite(planes, COLORS, windows),
            "composite, float32": lambda: composite(floats, COLORS, windows),
            "composite, uint16, gamma": lambda: composite(
                planes, COLORS, windows, gammas=[0.7] * 3
            ),
            "composite, uint16, viridis": lambda: composite(
                planes, [colormap("viridis")] * 3, windows
            ),
            "naive numpy, uint16": lambda: naive_composite(planes, windows),
            "auto_window, uint16": lambda: auto_window(plane),
        },
    )
    large = labels.astype(np.uint64) << np.uint64(40)
    report(
        f"{labels.max()} labels over it",
        {
            "overlay_labels, uint32": lambda: overlay_labels(rgb, labels),
            "overlay_labels, ids above 2**40": lambda: overlay_labels(rgb, large),
            "overlay_labels, 50 selected": lambda: overlay_labels(
                rgb, labels, selected=range(1, 51)
            ),
            "overlay_labels, outline": lambda: overlay_labels(rgb, labels, outline=True),
            "boolean mask": lambda: naive_overlay(rgb, labels),
        },
    )
    sizes = {level: len(by_pillow(rgb, level)) for level in (1, 6)}
    report(
        f"PNG: {len(png(rgb)):,} bytes; Pillow {sizes[1]:,} at level 1, {sizes[6]:,} at 6",
        {
            "png": lambda: png(rgb),
            "Pillow, level 1": lambda: by_pillow(rgb, 1),
            "Pillow, level 6 (its default)": lambda: by_pillow(rgb, 6),
        },
    )


if __name__ == "__main__":
    main()
