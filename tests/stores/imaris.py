"""Imaris files, written as Imaris does: HDF5 groups of numbers, padded pixels, text in letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Image = np.ndarray[Any, Any]

CHANNELS = (
    {"Name": "DAPI", "Color": "0.000 0.000 1.000", "ColorRange": "10.000 200.000"},
    {"Name": "GFP", "Color": "0.000 1.000 0.000", "ColorRange": "0.000 255.000"},
    {"Name": "Alexa", "Color": "1.000 0.500 0.000", "ColorRange": "5.500 100.000"},
)


def pixels(shape: Sequence[int] = (2, 2, 5, 40, 50), dtype: str = "uint16", seed: int = 0) -> Image:
    """Return pixels that compress: a ramp and a little noise."""
    noise = np.random.default_rng(seed).integers(0, 20, shape)
    ramp = sum(np.ix_(*(np.arange(n) * (i + 1) for i, n in enumerate(shape))))
    return ((noise + ramp) % 250).astype(dtype)


def pyramid(level: Image, count: int) -> list[Image]:
    """Return levels, each with half the pixels of the one before along z, y and x."""
    levels = [level]
    for _ in range(count - 1):
        halves = [max(1, n // 2) for n in levels[-1].shape[2:]]
        levels.append(levels[-1][:, :, ::2, ::2, ::2][:, :, *(slice(n) for n in halves)])
    return levels


def letters(text: str) -> Image:
    """Return a text as Imaris keeps it: an array of single characters."""
    return np.frombuffer(text.encode(), dtype="S1")


def set_texts(node: h5py.Group, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        node.attrs[name] = letters(text)


def write_imaris(
    path: Path,
    levels: Sequence[Image] | None = None,
    *,
    chunks: Sequence[tuple[int, int, int]] | tuple[int, int, int] = (4, 16, 32),
    storage: Mapping[str, Any] | None = None,
    pad: bool = True,
    info: bool = True,
    by_blocks: bool = False,
    extent: Sequence[tuple[float, float]] = ((10.0, 35.0), (-4.0, 16.0), (0.0, 10.0)),
    **driver: Any,
) -> Path:
    """Write an Imaris file.

    Parameters
    ----------
    path
        Where to.
    levels
        Arrays of t, c, z, y, x, finest first.
    chunks
        Of each dataset, or of each level, in z, y, x; None for contiguous ones.
    storage
        How h5py is to compress: gzip and shuffle unless said otherwise.
    pad
        Whether to fill the datasets up to whole chunks with 7s.
    info
        Whether to write ``DataSetInfo``.
    by_blocks
        Whether to write as Imaris's own writer does: all levels of a time point together, a chunk
        of one and then of another, in the format of HDF5 1.8.
    extent
        First and last edge along x, y and z, in micrometers.
    driver
        For h5py, about the file.
    """
    levels = pyramid(pixels(), 2) if levels is None else levels
    storage = {"compression": "gzip", "compression_opts": 2, "shuffle": True, **(storage or {})}
    if by_blocks:
        driver = {"libver": ("v108", "v108"), **driver}
    with h5py.File(path, "w", **driver) as file:
        set_texts(
            file,
            {
                "DataSetDirectoryName": "DataSet",
                "DataSetInfoDirectoryName": "DataSetInfo",
                "ImarisDataSet": "ImarisDataSet",
                "ImarisVersion": "5.5.0",
            },
        )
        file.attrs["NumberOfDataSets"] = np.array([1], dtype="uint32")
        places = [
            (n, t, c) for n, level in enumerate(levels) for t, c in np.ndindex(level.shape[:2])
        ]
        if by_blocks:
            places.sort(key=lambda place: (*place[1:], place[0]))
        for _, together in groupby(places, lambda place: place[1:] if by_blocks else place):
            made = []
            for number, t, c in together:
                name = f"DataSet/ResolutionLevel {number}/TimePoint {t}/Channel {c}"
                each = chunks[number] if isinstance(chunks, list) else chunks
                volume = levels[number][t, c]
                made.append(_make_channel(file.create_group(name), volume, each, storage, pad))
            _write_pixels(made, by_blocks)
        for number, t, c in places:
            node = file[f"DataSet/ResolutionLevel {number}/TimePoint {t}/Channel {c}"]
            node.create_dataset("Histogram", data=np.zeros(256, dtype="uint64"))
        if info:
            _write_info(file.create_group("DataSetInfo"), levels[0], extent)
    return path


def _make_channel(
    node: h5py.Group, volume: Image, chunks: Any, storage: Mapping[str, Any], pad: bool
) -> tuple[h5py.Dataset, Image]:
    """Return a dataset and what is to stand in it."""
    sizes = dict(zip("ZYX", volume.shape, strict=True))
    set_texts(node, {f"ImageSize{axis}": str(n) for axis, n in sizes.items()})
    set_texts(node, {"HistogramMin": "0.000", "HistogramMax": f"{float(volume.max()):.3f}"})
    if chunks is not None:
        more = [(0, -n % size) for n, size in zip(volume.shape, chunks, strict=True)]
        volume = np.pad(volume, more, constant_values=7) if pad else volume
    options = {"chunks": chunks, **storage} if chunks else {}
    return node.create_dataset("Data", volume.shape, volume.dtype, **options), volume


def _write_pixels(datasets: Sequence[tuple[h5py.Dataset, Image]], by_blocks: bool) -> None:
    if not by_blocks:
        for data, volume in datasets:
            data[...] = volume
        return
    parts = [list(data.iter_chunks()) for data, _ in datasets]
    turns = sorted((i / len(each), n, i) for n, each in enumerate(parts) for i in range(len(each)))
    for _, n, i in turns:
        data, volume = datasets[n]
        data[parts[n][i]] = volume[parts[n][i]]


def _write_info(node: h5py.Group, first: Image, extent: Sequence[tuple[float, float]]) -> None:
    times, channels, *sizes = first.shape
    image = {"Name": "a scan", "Unit": "um", "RecordingDate": "2024-02-29 23:59:58.000"}
    for i, (axis, size) in enumerate(zip("XYZ", reversed(sizes), strict=True)):
        image[axis] = str(size)
        image[f"ExtMin{i}"], image[f"ExtMax{i}"] = (f"{end:.6f}" for end in extent[i])
    set_texts(node.create_group("Image"), image)
    for c in range(channels):
        set_texts(node.create_group(f"Channel {c}"), CHANNELS[c % len(CHANNELS)])
    moments = {f"TimePoint{t + 1}": f"2024-02-29 23:59:{58.0 + t / 2:06.3f}" for t in range(times)}
    if times > 4:
        moments = {f"TimePoint{t + 1}": f"2024-02-29 10:{t:02}:00.000" for t in range(times)}
    set_texts(
        node.create_group("TimeInfo"),
        {"DatasetTimePoints": str(times), "FileTimePoints": str(times), **moments},
    )
