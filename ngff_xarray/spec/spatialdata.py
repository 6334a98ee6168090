"""SpatialData stores: what tells one, and where its transformations place an element."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngff_xarray import transforms
from ngff_xarray.model import Image, Json, Level
from ngff_xarray.spec import levels
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.spec.values import is_number
from ngff_xarray.transforms import Scale, Translation

SYSTEM = "global"
_KEY = "coordinateTransformations"
_OTHERS = {"encoding-type", "axes", "ome", "multiscales", "plate", "well"}
_MOST = 100  # transformations of an element, and parts of one
_MAX_SIZE = 1e50  # of a number: more are faults, and floats must hold what is made of them

Matrix = NDArray[np.float64]


def is_store(attributes: Json) -> bool:
    """Tell whether the attributes of a group are those of a SpatialData store, not of an element.

    Examples
    --------
    >>> is_store({"spatialdata_attrs": {"version": "0.2"}}), is_store({"multiscales": []})
    (True, False)
    """
    said = attributes.get("spatialdata_attrs")
    return isinstance(said, dict) and "version" in said and not _OTHERS & set(attributes)


def placed(image: Image, report: Report) -> Image:
    """Return an element where its transformations place it.

    SpatialData counts pixels from their corner, so that the centre of the first one is at 0.5 of
    what the transformations take. One to ``global`` that scales and shifts is in the coordinates;
    others lead from these to their systems, as in 0.6.
    """
    multiscale = image.multiscale
    links = multiscale.extra.get(_KEY)
    if not isinstance(links, list):
        return image
    where = f"multiscales[0].{_KEY}"
    report.issues[:] = [issue for issue in report.issues if issue.path != where]
    axes = [axis.name for axis in multiscale.axes]
    known: dict[str, Matrix] = {}
    for i, link in enumerate(links[:_MOST]):
        name = _end(link, "output")
        matrix = _matrix(link, axes) if name else None
        if matrix is None:
            report.error(f"{where}[{i}]", None, f"cannot be read; not applied: {shown(link)}")
        else:
            known[name] = matrix
    count = len(axes)
    half = [0.5 if axis.type == "space" else 0.0 for axis in multiscale.axes]
    base = SYSTEM if SYSTEM in known else next(iter(known)) if len(known) == 1 else ""
    whole = known.get(base)
    own = next((name for link in links if (name := _end(link, "input"))), "pixels")
    if whole is None or not _is_straight(whole):
        base, whole = own if own not in known else f"{own} of pixels", np.eye(count + 1)
        text = f"positions are in pixels, from the corner of the first; systems: {shown([*known])}"
    else:
        text = f"positions are in SpatialData's system {shown(base)}, whose unit it does not say"
    report.warn(where, None, text)
    steps = tuple(float(step) for step in np.diag(whole)[:count])
    shift = tuple(float(n) for n in whole[:count, :count] @ half + whole[:count, count])

    def moved(level: Level) -> Level:
        inner = [] if level.transformation is None else [level.transformation]
        whole = transforms.compose([*inner, Scale(steps), Translation(shift)])
        levels.check_composed(whole, where, count, report)
        return replace(level, transformation=whole)

    back = np.linalg.inv(whole)
    others = {name: matrix @ back for name, matrix in known.items() if name != base}
    listed = [{"name": axis.name, "type": axis.type} for axis in multiscale.axes]
    made = replace(
        multiscale,
        levels=tuple(moved(level) for level in multiscale.levels),
        extra={key: value for key, value in multiscale.extra.items() if key != _KEY},
        intrinsic=base if others else None,
        systems=tuple({"name": name, "axes": listed} for name in (base, *others) if others),
        transformations=tuple(
            {
                "type": "affine",
                "affine": matrix[:count].tolist(),
                "input": {"name": base},
                "output": {"name": name},
            }
            for name, matrix in others.items()
        ),
    )
    report.check()
    return replace(image, multiscale=made)


def _is_straight(matrix: Matrix) -> bool:
    """Tell whether a matrix scales and shifts, and does nothing else."""
    linear = matrix[:-1, :-1]
    return bool(np.all(np.diag(linear)) and np.array_equal(linear, np.diag(np.diag(linear))))


def _end(link: Any, key: str) -> str:
    """Return the name of the system that a transformation comes from or leads to."""
    found = link.get(key) if isinstance(link, dict) else None
    name = found.get("name") if isinstance(found, dict) else None
    return name if isinstance(name, str) else ""


def _names(link: Json, key: str, axes: Sequence[str]) -> list[str]:
    """Return the axes of an end of a transformation, by default those of the image."""
    found = link.get(key)
    listed = found.get("axes") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        return list(axes)
    return [str(axis.get("name")) if isinstance(axis, dict) else str(axis) for axis in listed]


def _matrix(link: Any, axes: Sequence[str]) -> Matrix | None:
    """Return the matrix of a transformation of all axes of an image; None if it has none."""
    kind = link.get("type") if isinstance(link, dict) else None
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        return None
    ends = [_names(link, key, axes) for key in ("input", "output")]
    if any(sorted(names) != sorted(axes) for names in ends):
        return None
    found = reader(link, *ends)
    if found is None or not np.isfinite(found).all() or not np.linalg.det(found[:-1, :-1]):
        return None
    columns, rows = ([names.index(axis) for axis in axes] for names in ends)
    last = len(axes)
    return found[np.ix_([*rows, last], [*columns, last])]


def _numbers(value: Any, count: int) -> list[float] | None:
    if not isinstance(value, list) or len(value) != count or not all(map(is_number, value)):
        return None
    return [float(n) for n in value] if max(map(abs, value)) < _MAX_SIZE else None


def _identity(link: Json, source: list[str], target: list[str]) -> Matrix:
    return _permuted(source, target, {})


def _permuted(source: list[str], target: list[str], mapped: Mapping[str, str]) -> Matrix:
    """Return the matrix that takes each axis from one of the same, or of another, name."""
    found = np.zeros((len(target) + 1,) * 2)
    for row, axis in enumerate(target):
        found[row, source.index(mapped.get(axis, axis))] = 1
    found[-1, -1] = 1
    return found


def _scale(link: Json, source: list[str], target: list[str]) -> Matrix | None:
    numbers = _numbers(link.get("scale"), len(source))
    return None if numbers is None else _identity(link, source, target) @ np.diag([*numbers, 1])


def _translation(link: Json, source: list[str], target: list[str]) -> Matrix | None:
    numbers = _numbers(link.get("translation"), len(source))
    if numbers is None:
        return None
    found = np.eye(len(source) + 1)
    found[:-1, -1] = numbers
    return _identity(link, source, target) @ found


def _affine(link: Json, source: list[str], target: list[str]) -> Matrix | None:
    value = link.get("affine")
    rows = value if isinstance(value, list) else []
    read = [_numbers(row, len(source) + 1) for row in rows[: len(target)]]
    if len(rows) not in (len(target), len(target) + 1) or None in read:
        return None
    return np.array([*read, [0.0] * len(source) + [1.0]])


def _map_axis(link: Json, source: list[str], target: list[str]) -> Matrix | None:
    mapped = link.get("mapAxis")
    if not isinstance(mapped, dict) or not set(mapped.values()) <= set(source):
        return None
    return _permuted(source, target, mapped)


def _sequence(link: Json, source: list[str], target: list[str]) -> Matrix | None:
    parts = link.get("transformations")
    if not isinstance(parts, list) or not 0 < len(parts) <= _MOST:
        return None
    whole = np.eye(len(source) + 1)
    for part in parts:
        if not isinstance(part, dict) or part.get("type") == "sequence":
            return None
        found = _matrix(part, source)
        if found is None:
            return None
        whole = found @ whole
        if np.abs(whole).max() > _MAX_SIZE:
            return None
    return _permuted(source, target, {}) @ whole


_READERS: Mapping[str, Callable[[Json, list[str], list[str]], Matrix | None]] = {
    "identity": _identity,
    "scale": _scale,
    "translation": _translation,
    "affine": _affine,
    "mapAxis": _map_axis,
    "sequence": _sequence,
}
