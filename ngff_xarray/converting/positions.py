"""Where the stage was, as OME-XML says of planes and of fields of wells -> where an image begins.

OME-XML does not tell which point of an image its position is of, nor the sense of its axes: it is
taken as that of the first pixel. Images of one size are placed right to one another, then.
https://www.openmicroscopy.org/Schemas/Documentation/Generated/OME-2016-06/ome_xsd.html
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from xml.etree import ElementTree

from ngff_xarray import units
from ngff_xarray.converting.found import Size
from ngff_xarray.errors import NgffError

_DEFAULT = "reference frame"  # the unit where none is said
_SAME = 0.5  # of a pixel, that positions of the planes of an image may differ by
_STEP = 0.05  # of the distance of planes, that the positions of these may be off
_DROPPED = "positions of the stage ({}: they stay in the text of the OME-XML)"

Places = dict[str, list[tuple[int, float, str]]]
"""By axis the number of a plane along z, and a position with its unit."""


def of_planes(planes: Iterable[ElementTree.Element]) -> Places:
    """Return the positions of the planes of an image."""
    return _places((each, _whole(each.get("TheZ"))) for each in planes)


def of_sample(sample: ElementTree.Element) -> Places:
    """Return the position of a field of a well."""
    return _places([(sample, 0)])


def _whole(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0


def _places(elements: Iterable[tuple[ElementTree.Element, int]]) -> Places:
    found: Places = {}
    for element, plane in elements:
        for axis in "xyz":
            name = f"Position{axis.upper()}"
            try:
                value = float(element.get(name, ""))
            except ValueError:
                continue
            if math.isfinite(value):
                said = (plane, value, element.get(f"{name}Unit", _DEFAULT))
                found.setdefault(axis, []).append(said)
    return found


def origins(places: Places, sizes: Mapping[str, Size]) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return where an image begins, by axis in the unit of its pixels; and why not along others.

    Parameters
    ----------
    places
        The positions of its planes.
    sizes
        Of its pixels.

    Examples
    --------
    >>> sizes = {"x": (0.5, "micrometer"), "z": (2.0, "micrometer")}
    >>> origins({"x": [(0, 0.1, "mm")], "z": [(0, 7, "µm"), (1, 9, "µm")]}, sizes)
    ({'x': 100.0, 'z': 7.0}, ())
    >>> origins({"x": [(0, 1, "reference frame")]}, sizes)[1]
    ('positions of the stage (x in no unit of length: they stay in the text of the OME-XML)',)
    """
    found: dict[str, float] = {}
    reasons = []
    for axis, said in places.items():
        start, reason = _origin(axis, said, sizes.get(axis))
        if start is not None:
            found[axis] = start
        elif reason:
            reasons.append(reason)
    return found, (_DROPPED.format(", ".join(reasons)),) if reasons else ()


def _origin(
    axis: str, said: list[tuple[int, float, str]], size: Size | None
) -> tuple[float | None, str]:
    names = {units.unit_name(unit) for _, _, unit in said}
    if size is None or size[1] is None:
        return None, f"{axis} has no pixel size"
    try:
        factors = {name: units.factor(name, size[1]) for name in names if name is not None}
    except NgffError:
        factors = {}
    if None in names or not factors:
        return None, f"{axis} in no unit of length"
    values = [(n, value * factors[units.unit_name(unit) or ""]) for n, value, unit in said]
    if _spread(value for _, value in values) <= _SAME * size[0]:
        return _rounded(values[0][1]), ""
    if axis == "z":
        starts = [value - n * size[0] for n, value in values]
        if _spread(starts) <= _STEP * size[0]:
            return _rounded(starts[0]), ""
    return None, f"{axis} differs from plane to plane"


def _spread(values: Iterable[float]) -> float:
    known = list(values)
    return max(known) - min(known)


def _rounded(value: float) -> float:
    """Return a decimal without what factors of units have added."""
    return float(f"{value:.12g}")
