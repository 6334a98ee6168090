"""What the ``DataSetInfo`` of an Imaris file says, as OME attributes of version 0.4."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from ngff_xarray import units
from ngff_xarray.errors import Issue
from ngff_xarray.spec import omero
from ngff_xarray.text import printable
from ngff_xarray.virtual import hdf5

if TYPE_CHECKING:
    import h5py

Sizes = Sequence[tuple[int, int, int]]

_UNEVEN = 0.01  # of a step that times may be off


def describe(
    file: h5py.File, where: str, sizes: Sizes, times: int, channels: int, dtype: np.dtype[Any]
) -> tuple[dict[str, Any], list[Issue]]:
    """Return the attributes of the image, and what is odd in what they are made of.

    Parameters
    ----------
    file, where
        The file, and what to call it.
    sizes
        Of the levels, in z, y and x.
    times, channels
        How many there are.
    dtype
        Of the pixels.
    """
    reader = _Info(file, where)
    image = reader.group("Image")
    unit = reader.unit(image)
    placed = [reader.axis(image, axis, [size[i] for size in sizes]) for i, axis in enumerate("zyx")]
    step, seconds = reader.time_step(times)
    axes: list[dict[str, Any]] = [
        {"name": "t", "type": "time", **({"unit": "second"} if seconds else {})},
        {"name": "c", "type": "channel"},
        *({"name": name, "type": "space", **({"unit": unit} if unit else {})} for name in "zyx"),
    ]
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [step, 1.0, *(axis[level][0] for axis in placed)]},
                {
                    "type": "translation",
                    "translation": [0.0, 0.0, *(axis[level][1] for axis in placed)],
                },
            ],
        }
        for level in range(len(sizes))
    ]
    entry: dict[str, Any] = {"version": "0.4", "axes": axes, "datasets": datasets}
    name = None if image is None else hdf5.text(image, "Name")
    if name:
        entry["name"] = name[: omero.MAX_NAME]
    attributes = {"multiscales": [entry], "omero": reader.channels(channels, dtype)}
    return attributes, reader.issues


class _Info:
    """Reads the groups of ``DataSetInfo``, and notes what makes no sense."""

    def __init__(self, file: h5py.File, where: str) -> None:
        self.issues: list[Issue] = []
        self._file = file
        self._where = where
        self._info = self._below(file, "DataSetInfo")

    def group(self, name: str) -> h5py.Group | None:
        return None if self._info is None else self._below(self._info, name)

    def _below(self, parent: h5py.Group, name: str) -> h5py.Group | None:
        import h5py

        found = hdf5.child(parent, name, self._where)
        if isinstance(found, h5py.Group):
            return found
        self._note(f"{parent.name}/{name}".replace("//", "/"), "is missing")
        return None

    def _note(self, path: str, message: str) -> None:
        self.issues.append(Issue(printable(path, 200), message, "warning"))

    def _numbers(self, node: h5py.Group, name: str, count: int) -> list[float] | None:
        """Return the numbers of an attribute, or None if there are none, or not so many."""
        said = hdf5.text(node, name)
        if said is None:
            return None
        try:
            found = [float(word) for word in said.split()]
        except ValueError:
            found = []
        if len(found) == count and all(map(math.isfinite, found)):
            return found
        expected = "a number" if count == 1 else f"{count} numbers"
        self._note(f"{node.name}.{name}", f"expected {expected}, found {printable(said)!r}")
        return None

    def _number(self, node: h5py.Group | None, name: str) -> float | None:
        found = None if node is None else self._numbers(node, name, 1)
        return found[0] if found else None

    def unit(self, image: h5py.Group | None) -> str | None:
        said = None if image is None else hdf5.text(image, "Unit")
        known = units.unit_name(said) if said else None
        if said and known not in units.SPACE_UNITS:
            self._note("/DataSetInfo/Image.Unit", f"is no unit of length: {printable(said)!r}")
            return None
        return known

    def axis(
        self, image: h5py.Group | None, name: str, sizes: Sequence[int]
    ) -> list[tuple[float, float]]:
        """Return the pixel size and the centre of the first pixel along an axis, of each level.

        The extents are those of level 0: each following level has half as many pixels, and
        leaves out the last one where they are odd in number.
        """
        number = "xyz".index(name)
        factors = [_factor(sizes[0], size) for size in sizes]
        first, last = (self._number(image, f"{end}{number}") for end in ("ExtMin", "ExtMax"))
        if first is None or last is None or not 0 < last - first < math.inf:
            what = f"/DataSetInfo/Image.ExtMin{number} and ExtMax{number}"
            self._note(what, "do not tell where the image lies: its pixels are counted instead")
            return [(factor, (factor - 1) / 2) for factor in factors]
        step = (last - first) / sizes[0]
        return [(step * factor, first + step * factor / 2) for factor in factors]

    def time_step(self, times: int) -> tuple[float, bool]:
        """Return the time between two time points, and whether it is in seconds."""
        info = self.group("TimeInfo")
        said = [
            None if info is None else hdf5.text(info, f"TimePoint{i + 1}") for i in range(times)
        ]
        moments = []
        for i, text in enumerate(said):
            try:
                moments.append(datetime.fromisoformat(text or "").replace(tzinfo=None))
            except ValueError:
                what = "is missing" if text is None else f"is no time: {printable(text)!r}"
                self._note(f"/DataSetInfo/TimeInfo.TimePoint{i + 1}", what)
                return 1.0, False
        if times < 2:
            return 1.0, True
        seconds = np.array([(moment - moments[0]).total_seconds() for moment in moments])
        step = float(seconds[-1]) / (times - 1)
        if step <= 0:
            self._note("/DataSetInfo/TimeInfo", "the times do not increase: they are counted")
            return 1.0, False
        if np.abs(seconds - step * np.arange(times)).max() > _UNEVEN * step:
            found = f"the times are not evenly spaced; their mean distance, {step:g} s, is used"
            self._note("/DataSetInfo/TimeInfo", found)
        return step, True

    def channels(self, count: int, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Return the ``omero`` document: names, colours and display ranges."""
        document = omero.made([str(i) for i in range(count)], dtype)
        for i, entry in enumerate(document["channels"]):
            node = self.group(f"Channel {i}")
            if node is None:
                continue
            name = hdf5.text(node, "Name")
            if name:
                entry["label"] = name[: omero.MAX_NAME]
            color = self._numbers(node, "Color", 3)
            if color:
                entry["color"] = "".join(f"{_byte(part):02X}" for part in color)
            shown = self._numbers(node, "ColorRange", 2)
            if shown and shown[0] != shown[1]:
                self._set_window(entry["window"], shown, dtype)
        return document

    def _set_window(
        self, window: dict[str, Any], shown: Sequence[float], dtype: np.dtype[Any]
    ) -> None:
        start, end = (int(value) if value.is_integer() else value for value in shown)
        window |= {"start": start, "end": end}
        if dtype.kind == "f":
            window |= {"min": min(start, end), "max": max(start, end)}


def _byte(part: float) -> int:
    return round(255 * min(1.0, max(0.0, part)))


def _factor(first: int, size: int) -> float:
    """Return how many pixels of the first level one of a smaller level stands for."""
    powers = [2**i for i in range(first.bit_length())]
    floors = (power for power in powers if first // power == size)
    ceilings = (power for power in powers if -(-first // power) == size)
    return float(next(floors, next(ceilings, first / size)))
