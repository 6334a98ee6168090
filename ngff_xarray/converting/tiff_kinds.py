"""What TIFF files that are no OME-TIFF say of themselves: ImageJ, SVS, LSM, and plain ones."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

import numpy as np

from ngff_xarray import units
from ngff_xarray.converting.found import Original, Size
from ngff_xarray.errors import Issue
from ngff_xarray.model import RGB, Channel, Window
from ngff_xarray.text import printable

if TYPE_CHECKING:
    import tifffile

_INCH, _CENTIMETER = 2, 3  # of the tag ResolutionUnit
_PRINTED = 1e4 / 100  # µm: pixels that are larger were sized for paper


@dataclass(frozen=True)
class Said:
    """What a file says of an image."""

    name: str | None = None
    sizes: Mapping[str, Size] = field(default_factory=dict)
    channels: Sequence[Channel] = ()
    issues: Sequence[Issue] = ()
    dropped: Sequence[str] = ()
    origins: Mapping[str, float] = field(default_factory=dict)
    shapes: Sequence[Element] = ()


Kind = Callable[["tifffile.TiffFile"], tuple[str, Original | None, Callable[[int], Said]]]


def kind_of(tif: tifffile.TiffFile) -> Kind:
    """Return what reads the description of a file."""
    return next((kind for name, kind in _KINDS.items() if getattr(tif, f"is_{name}")), _plain)


def main_series(tif: tifffile.TiffFile) -> int | None:
    """Return which series is the image where the others only go with it, None if all are alike."""
    if tif.is_svs or tif.is_lsm or tif.is_ndpi or tif.is_philips or tif.is_bif:
        return 0
    return None


def _resolution(page: Any, name: str) -> float | None:
    """Return pixels per unit, None if that is not said."""
    tag = page.tags.get(name)
    if tag is None:
        return None
    parts = tag.value if isinstance(tag.value, tuple) else (tag.value, 1)
    if len(parts) != 2 or not all(isinstance(each, int | float) and each > 0 for each in parts):
        return None
    return float(parts[0]) / float(parts[1])


# ---- ImageJ ------------------------------------------------------------------------------------


def _imagej(
    tif: tifffile.TiffFile,
) -> tuple[str, Original | None, Callable[[int], Said]]:
    said = dict(tif.imagej_metadata or {})
    page: Any = tif.pages[0]
    info = said.get("Info")
    text = page.description + (f"\n{info}" if isinstance(info, str) else "")
    return "ImageJ TIFF", Original("ImageJ", text), lambda number: _imagej_said(tif, said, number)


def _imagej_said(tif: tifffile.TiffFile, said: Mapping[str, Any], number: int) -> Said:
    page: Any = tif.pages[0]
    issues: list[Issue] = []
    sizes: dict[str, Size] = {}
    spelt = str(said.get("unit") or "").replace("\\u00B5", "µ").strip()
    unit = units.unit_name(spelt) if spelt else None
    if spelt and unit is None and spelt not in ("pixel", "pixels"):
        issues.append(
            Issue("ImageJ: unit", f"{printable(spelt)!r} is no unit that OME-Zarr has: not used")
        )
    if unit is not None:
        for axis in "yx":
            per_unit = _resolution(page, f"{axis.upper()}Resolution")
            if per_unit:
                sizes[axis] = rounded(1 / per_unit), _unit_of(said, axis, unit)
        depth = said.get("spacing")
        if isinstance(depth, int | float) and depth != 0:
            sizes["z"] = abs(float(depth)), _unit_of(said, "z", unit)
    step = said.get("finterval")
    if isinstance(step, int | float) and step > 0:
        sizes["t"] = float(step), units.unit_name(str(said.get("tunit") or "s"))
    dropped = []
    if "Overlays" in said or "ROI" in said:
        count = len(said.get("Overlays") or ()) + ("ROI" in said)
        dropped.append(f"{count} regions of interest (ROI)")
    name = page.parent.filename if number == 0 else None
    return Said(_stem(name), sizes, _imagej_channels(tif, said), issues, dropped)


def _unit_of(said: Mapping[str, Any], axis: str, unit: str) -> str:
    own = said.get(f"{axis}unit")
    return (units.unit_name(str(own)) if own else None) or unit


def rounded(size: float) -> float:
    """Return the decimal that a fraction of whole numbers stands for: 0.65 for 1538462/1000000."""
    short = float(f"{size:.6g}")
    return short if math.isclose(short, size, rel_tol=1e-6) else size


def paper_size(micrometers: float, axis: str, where: str) -> tuple[float | None, Issue | None]:
    """Return the size of a pixel, or why it is none: it was made up for paper or a screen.

    Examples
    --------
    >>> paper_size(0.25, "x", "dpi")
    (0.25, None)
    >>> print(paper_size(25_400 / 72, "x", "dpi")[1].message)
    352.778 µm a pixel along x is a size for print or screen: not used
    """
    size = rounded(micrometers)
    if not 0 < size < math.inf:
        return None, None
    if size > _PRINTED:
        message = f"{size:g} µm a pixel along {axis} is a size for print or screen: not used"
        return None, Issue(where, message)
    return size, None


def _stem(name: str | None) -> str | None:
    return None if name is None else re.sub(r"\.[A-Za-z0-9]+$", "", name)


def _imagej_channels(tif: tifffile.TiffFile, said: Mapping[str, Any]) -> list[Channel]:
    """Return the channels: their colours are tables, their ranges stand one after another."""
    axes, shape = tif.series[0].axes, tif.series[0].shape
    count = int(shape[axes.index("C")]) if "C" in axes else 1
    tables, ranges = said.get("LUTs"), said.get("Ranges")
    labels = said.get("Labels") if count > 1 or "Labels" in said else None
    channels = []
    for i in range(count):
        color = _last_color(tables[i]) if isinstance(tables, list) and i < len(tables) else None
        window = None
        if isinstance(ranges, tuple) and len(ranges) >= 2 * i + 2:
            start, end = (float(value) for value in ranges[2 * i : 2 * i + 2])
            window = Window(start, end) if start < end else None
        name = str(i)
        if isinstance(labels, list) and len(labels) == count:
            name = str(labels[i])
        channels.append(Channel(name, color, window))
    is_said = any(
        each.color or each.window or each.name != str(i) for i, each in enumerate(channels)
    )
    return channels if is_said else []


def _last_color(table: Any) -> RGB | None:
    """Return the colour of the brightest pixel."""
    colors = np.asarray(table)
    if colors.shape[:1] != (3,) or colors.size < 6:
        return None
    red, green, blue = (int(part) for part in colors.reshape(3, -1)[:, -1])
    return red, green, blue


# ---- SVS ---------------------------------------------------------------------------------------


def _svs(tif: tifffile.TiffFile) -> tuple[str, Original | None, Callable[[int], Said]]:
    text = tif.pages[0].description  # type: ignore[union-attr]  # the first is no frame

    def describe(number: int) -> Said:
        name = tif.series[number].name
        found = re.search(r"\bMPP\s*=\s*([0-9.eE+-]+)", text)
        size = float(found[1]) if found and number == 0 else 0.0
        sizes: dict[str, Size] = dict.fromkeys("yx", (size, "micrometer")) if size > 0 else {}
        return Said(_stem(tif.filename) if number == 0 else name, sizes)

    return "Aperio SVS", Original("Aperio", text), describe


# ---- LSM ---------------------------------------------------------------------------------------


def _lsm(tif: tifffile.TiffFile) -> tuple[str, Original | None, Callable[[int], Said]]:
    said = dict(tif.lsm_metadata or {})
    text = json.dumps(said, default=str, indent=1)

    def describe(number: int) -> Said:
        if number:
            return Said(tif.series[number].name)
        sizes: dict[str, Size] = {}
        for axis in "zyx":
            meters = said.get(f"VoxelSize{axis.upper()}")
            if isinstance(meters, float) and meters > 0:
                sizes[axis] = float(f"{meters * 1e6:.12g}"), "micrometer"
        step = said.get("TimeIntervall") or said.get("TimeInterval")
        if isinstance(step, float) and step > 0:
            sizes["t"] = step, "second"
        dropped = []
        marked = [
            key for key in said if key.startswith("Offset") and "Overlay" in key and said[key]
        ]
        if marked:
            dropped.append("overlays")
        return Said(_stem(tif.filename), sizes, _lsm_channels(said), dropped=dropped)

    return "Zeiss LSM", Original("LSM (as JSON)", text), describe


def _lsm_channels(said: Mapping[str, Any]) -> list[Channel]:
    colors = said.get("ChannelColors")
    names = colors.get("ColorNames", []) if isinstance(colors, dict) else []
    shown = colors.get("Colors", []) if isinstance(colors, dict) else []
    found = []
    for i, name in enumerate(names):
        color = tuple(int(part) for part in shown[i][:3]) if i < len(shown) else ()
        known: RGB | None = (color[0], color[1], color[2]) if len(color) == 3 else None
        found.append(Channel(str(name) or str(i), known))
    return found


# ---- plain TIFF --------------------------------------------------------------------------------


def _plain(tif: tifffile.TiffFile) -> tuple[str, Original | None, Callable[[int], Said]]:
    text = tif.pages[0].description  # type: ignore[union-attr]  # the first is no frame
    original = Original("TIFF", text) if text else None
    kinds = sorted(flag for flag in tif.flags if flag not in ("uniform", "virtual"))
    named = next((flag for flag in kinds if flag not in ("shaped", "mdgel", "geotiff")), None)
    format_ = "TIFF" if named is None else f"TIFF ({named})"
    return format_, original, lambda number: _plain_said(tif, number)


def _plain_said(tif: tifffile.TiffFile, number: int) -> Said:
    series = tif.series[number]
    page = series.keyframe
    name = _stem(tif.filename) if number == 0 else series.name
    unit = page.tags.get("ResolutionUnit")
    micrometers = {_INCH: 25_400.0, _CENTIMETER: 10_000.0}.get(getattr(unit, "value", 0))
    sizes: dict[str, Size] = {}
    issues: list[Issue] = []
    for axis in "yx":
        per_unit = _resolution(page, f"{axis.upper()}Resolution")
        if not micrometers or not per_unit or per_unit == 1:
            continue
        where = f"TIFF: {axis.upper()}Resolution"
        size, issue = paper_size(micrometers / per_unit, axis, where)
        if size:
            sizes[axis] = size, "micrometer"
        issues += [issue] if issue else []
    return Said(name, sizes, issues=issues)


_KINDS: Mapping[str, Kind] = {"imagej": _imagej, "svs": _svs, "lsm": _lsm}
