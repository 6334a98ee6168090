"""The transformations of version 0.6: JSON to transformation, and the forms of its drafts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ngff_xarray import transforms
from ngff_xarray.errors import TransformationError
from ngff_xarray.model import CoordinateSystem, Json
from ngff_xarray.spec import rules
from ngff_xarray.spec.report import shown
from ngff_xarray.spec.rules import Rule
from ngff_xarray.spec.values import is_integer, is_number
from ngff_xarray.transforms import Field, Transformation

_MOST_AXES = 5
_SAME = frozenset({"scale", "translation", "rotation", "mapAxis"})  # as many axes as before
INTERPOLATIONS = {
    "nearest": "nearest",
    "linear": "linear",
    "cubic": "cubic",
    "bspline-cubic": "cubic",
}


Complain = Callable[[str, Rule | None, str], None]


class Loader(Protocol):
    """Reads the parameters that a transformation keeps in arrays."""

    def matrix(self, path: str) -> Any:
        """Return the two-dimensional array at a path."""
        ...

    def field(self, path: str, interpolation: str) -> Field | None:
        """Return the vector field at a path, None where its vectors are not at hand."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """How a transformation is read: where faults go, and where arrays come from.

    Without a loader, what is kept in arrays is checked as far as the document tells, and no
    transformation comes back.
    """

    complain: Complain
    load: Loader | None = None
    warn: Complain = lambda path, rule, message: None


def read(
    entry: Any, where: str, ndim: int | None, ndim_out: int | None, reading: Reading
) -> Transformation | None:
    """Return the transformation that an object describes, None where it cannot be told.

    Parameters
    ----------
    entry
        The object, as version 0.6 writes it.
    where
        Its JSON path.
    ndim, ndim_out
        The number of axes of the input and of the output, None where that is not known.
    reading
        Takes what is wrong.
    """
    if not isinstance(entry, dict):
        reading.complain(where, rules.TRANSFORMATION, f"expected an object, found {shown(entry)}")
        return None
    kind = entry.get("type")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        found = f"expected one of {', '.join(_READERS)}; found {shown(kind)}"
        reading.complain(f"{where}.type", rules.TRANSFORMATION, found)
        return None
    if "name" in entry and not isinstance(entry["name"], str):
        found = f"expected text, found {shown(entry['name'])}"
        reading.complain(f"{where}.name", rules.TRANSFORMATION_NAME, found)
    result = reader(entry, where, ndim, ndim_out, reading)
    if ndim is None and kind in _SAME:
        ndim = ndim_out
    if result is not None and ndim is not None:
        rule = rules.MATRIX if kind in ("affine", "rotation") else rules.VECTOR
        try:
            made = result.ndim_out(ndim)
        except TransformationError as error:
            reading.complain(where, rule, str(error))
            return None
        if ndim_out is not None and made != ndim_out:
            found = f"{kind} gives {made} axes, the output has {ndim_out}"
            reading.complain(where, rule, found)
            return None
    return result


def _read_identity(
    entry: Json, where: str, ndim: int | None, ndim_out: int | None, reading: Reading
) -> Transformation | None:
    return transforms.Identity()


def _numbers(entry: Json, key: str, where: str, reading: Reading) -> tuple[float, ...] | None:
    value = entry.get(key)
    if not isinstance(value, list) or not value or not all(map(is_number, value)):
        found = f"expected a list of finite numbers, found {shown(value)}"
        reading.complain(f"{where}.{key}", rules.VECTOR, found)
        return None
    return tuple(map(float, value))


def _read_scale(
    entry: Json, where: str, ndim: int | None, ndim_out: int | None, reading: Reading
) -> Transformation | None:
    factors = _numbers(entry, "scale", where, reading)
    if factors is None:
        return None
    if min(factors) <= 0:
        found = f"expected numbers above 0, found {shown(entry['scale'])}"
        rule = rules.SCALE_NEGATIVE if all(factors) else rules.SCALE_ZERO
        reading.complain(f"{where}.scale", rule, found)
    return transforms.Scale(factors) if all(factors) else None


def _read_translation(
    entry: Json, where: str, ndim: int | None, ndim_out: int | None, reading: Reading
) -> Transformation | None:
    offsets = _numbers(entry, "translation", where, reading)
    return None if offsets is None else transforms.Translation(offsets)


def _indices(
    value: Any, where: str, rule: Rule, most: int | None, reading: Reading
) -> tuple[int, ...] | None:
    """Return a list of different axis indices."""
    good = isinstance(value, list) and all(is_integer(item, 0) for item in value)
    if not good or len(set(value)) < len(value) or any(i >= (most or _MOST_AXES) for i in value):
        limit = f" below {most}" if most else ""
        found = f"expected different indices of axes{limit}, found {shown(value)}"
        reading.complain(where, rule, found)
        return None
    return tuple(int(item) for item in value)


def _read_map_axis(
    entry: Json, where: str, ndim: int | None, ndim_out: int | None, reading: Reading
) -> Transformation | None:
    order = _indices(entry.get("mapAxis"), f"{where}.mapAxis", rules.MAP_AXIS, None, reading)
    if order is None:
        return None
    if len(order) < 2 or sorted(order) != list(range(len(order))):
        found = f"expected each of 0 to N-1 once, found {shown(entry['mapAxis'])}"
        reading.complain(f"{where}.mapAxis", rules.MAP_AXIS, found)
        return None
    return transforms.MapAxis(order)


def _read_project_axis(
    entry: Json, where: str, ndim: int | None, ndim_out: int | None, reading: Reading
) -> Transformation | None:
    keys = {"droppedInputs": ndim, "createdOutputs": ndim_out}
    lists = {}
    if not any(key in entry for key in keys):
        found = "expected droppedInputs or createdOutputs, found neither"
        reading.complain(where, rules.PROJECT_AXIS, found)
        return None
    for key, most in keys.items():
        value = entry.get(key, [])
        place = f"{where}.{key}"
        lists[key] = _indices(value, place, rules.PROJECT_AXIS, most, reading)
        if key in entry and lists[key] is not None and not 1 <= len(value) <= 3:
            found = f"expected one to three indices, found {shown(value)}"
            reading.complain(place, rules.PROJECT_AXIS, found)
    dropped, created = lists["droppedInputs"], lists["createdOutputs"]
    if dropped is None or created is None:
        return None
    return transforms.ProjectAxis(dropped, created)


def _matrix(
    entry: Json, key: str, where: str, reading: Reading
) -> tuple[tuple[float, ...], ...] | None:
    """Return the rows of a matrix that stands in the document or in an array."""
    path = entry.get("path")
    if ("path" in entry) == (key in entry):
        found = f"expected {key!r} or 'path', found {'both' if key in entry else 'neither'}"
        reading.complain(where, rules.MATRIX, found)
        return None
    value = entry.get(key)
    if "path" in entry:
        if not isinstance(path, str) or not path:
            found = f"expected the path of an array, found {shown(path)}"
            reading.complain(f"{where}.path", rules.MATRIX, found)
            return None
        if reading.load is None:
            return None
        try:
            value = np.asarray(reading.load.matrix(path), dtype=float).tolist()
        except TransformationError as error:
            reading.complain(f"{where}.path", rules.MATRIX, str(error))
            return None
    rows = value if isinstance(value, list) else []
    lengths = {len(row) if isinstance(row, list) else -1 for row in rows}
    if len(lengths) != 1 or lengths <= {-1, 0} or not all(is_number(v) for r in rows for v in r):
        found = f"expected rows of finite numbers, all as long: {shown(value)}"
        reading.complain(f"{where}.{key}", rules.MATRIX, found)
        return None
    return tuple(tuple(map(float, row)) for row in rows)


def _read_affine(
    entry: Json, where: str, ndim: int | None, ndim_out: int | None, reading: Reading
) -> Transformation | None:
    rows = _matrix(entry, "affine", where, reading)
    if rows is not None and len(rows[0]) < 2:
        found = "expected a column more than there are input axes"
        reading.complain(f"{where}.affine", rules.MATRIX, found)
        return None
    return None if rows is None else transforms.Affine(rows)


def _read_rotation(
    entry: Json, where: str, ndim: int | None, ndim_out: int | None, reading: Reading
) -> Transformation | None:
    rows = _matrix(entry, "rotation", where, reading)
    if rows is None:
        return None
    if len(rows) != len(rows[0]) or not 2 <= len(rows) <= _MOST_AXES:
        found = f"expected a square matrix, found {len(rows)} x {len(rows[0])}"
        reading.complain(f"{where}.rotation", rules.MATRIX, found)
        return None
    matrix = np.array(rows)
    large = np.abs(matrix).max() > 2  # too large to be multiplied, perhaps
    if (
        large
        or np.abs(matrix @ matrix.T - np.eye(len(rows))).max() > 0.01
        or np.linalg.det(matrix) < 0
    ):
        found = f"is not orthonormal with determinant 1: {shown(entry.get('rotation'))}"
        reading.complain(f"{where}.rotation", rules.ROTATION, found)
    if large or np.linalg.matrix_rank(matrix) < len(rows):
        return None
    return transforms.Rotation(rows)


def _read_sequence(
    entry: Json, where: str, ndim: int | None, ndim_out: int | None, reading: Reading
) -> Transformation | None:
    value = entry.get("transformations")
    place = f"{where}.transformations"
    if not isinstance(value, list) or not value:
        found = f"expected a list of at least one, found {shown(value)}"
        reading.complain(place, rules.SEQUENCE, found)
        return None
    parts = []
    for i, item in enumerate(value):
        last = i == len(value) - 1
        strays = [k for k in ("inputAxes", "outputAxes") if isinstance(item, dict) and k in item]
        if strays:
            found = f"{strays[0]} stands here: it belongs into byDimension"
            reading.complain(f"{place}[{i}]", rules.SEQUENCE, found)
        part = read(item, f"{place}[{i}]", ndim, ndim_out if last else None, reading)
        ndim = None if part is None or ndim is None else part.ndim_out(ndim)
        parts.append(part)
    known = [part for part in parts if part is not None]
    return transforms.Sequence(tuple(known)) if len(known) == len(parts) else None


def _read_bijection(
    entry: Json, where: str, ndim: int | None, ndim_out: int | None, reading: Reading
) -> Transformation | None:
    if ndim is not None and ndim_out is not None and ndim != ndim_out:
        found = f"expected spaces of equal dimension, found {ndim} and {ndim_out}"
        reading.complain(where, rules.BIJECTION, found)
    missing = [key for key in ("forward", "inverse") if key not in entry]
    if missing:
        reading.complain(f"{where}.{missing[0]}", rules.BIJECTION, "is missing")
        return None
    forward = read(entry["forward"], f"{where}.forward", ndim, ndim_out, reading)
    backward = read(entry["inverse"], f"{where}.inverse", ndim_out, ndim, reading)
    if forward is None or backward is None:
        return None
    return transforms.Bijection(forward, backward)


def _read_by_dimension(
    entry: Json, where: str, ndim: int | None, ndim_out: int | None, reading: Reading
) -> Transformation | None:
    value = entry.get("transformations")
    place = f"{where}.transformations"
    if not isinstance(value, list) or not value:
        found = f"expected a list of at least one, found {shown(value)}"
        reading.complain(place, rules.BY_DIMENSION, found)
        return None
    parts = [
        _read_part(item, f"{place}[{i}]", ndim, ndim_out, reading) for i, item in enumerate(value)
    ]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    outputs = [i for _, outs, _ in known for i in outs]
    absent = sorted(set(range(ndim_out or len(outputs))) - set(outputs))
    if absent and "output" not in entry and ndim == ndim_out:
        # the output of a step inside another transformation is not stated
        found = f"says nothing of the axes {shown(absent)}: they are left as they are"
        reading.warn(place, rules.BY_DIMENSION, found)
        known += [((i,), (i,), transforms.Identity()) for i in absent]
    elif absent or len(set(outputs)) < len(outputs):
        found = f"expected every output axis once, found {shown(outputs)}"
        reading.complain(place, rules.BY_DIMENSION, found)
        return None
    made = [transforms.Part(t, inputs, outs) for inputs, outs, t in known if t is not None]
    return transforms.ByDimension(tuple(made)) if len(made) == len(known) else None


def _read_part(
    item: Any, where: str, ndim: int | None, ndim_out: int | None, reading: Reading
) -> tuple[tuple[int, ...], tuple[int, ...], Transformation | None] | None:
    if not isinstance(item, dict):
        reading.complain(where, rules.BY_DIMENSION, f"expected an object, found {shown(item)}")
        return None
    axes = []
    for key, most in (("inputAxes", ndim), ("outputAxes", ndim_out)):
        axes.append(_indices(item.get(key), f"{where}.{key}", rules.BY_DIMENSION, most, reading))
    inputs, outputs = axes
    if "transformation" not in item:
        reading.complain(f"{where}.transformation", rules.BY_DIMENSION, "is missing")
        return None
    child = read(
        item["transformation"],
        f"{where}.transformation",
        None if inputs is None else len(inputs),
        None if outputs is None else len(outputs),
        reading,
    )
    return None if inputs is None or outputs is None else (inputs, outputs, child)


def _read_field(
    entry: Json, where: str, ndim: int | None, ndim_out: int | None, reading: Reading
) -> Transformation | None:
    path, interpolation = entry.get("path"), entry.get("interpolation", "linear")
    if not isinstance(path, str) or not path:
        reading.complain(f"{where}.path", rules.FIELD, f"expected a path, found {shown(path)}")
        return None
    method = INTERPOLATIONS.get(interpolation) if isinstance(interpolation, str) else None
    if method is None:
        found = f"expected nearest, linear or cubic; found {shown(interpolation)}"
        reading.complain(f"{where}.interpolation", rules.FIELD, found)
    displaces = entry["type"] == "displacements"
    if displaces and None not in (ndim, ndim_out) and ndim != ndim_out:
        found = f"displacements need as many output axes as input axes, found {ndim}, {ndim_out}"
        reading.complain(where, rules.FIELD, found)
        return None
    if reading.load is None:
        return None
    field = reading.load.field(path, method or "linear")
    if field is None:
        return None
    return transforms.Displacements(field) if displaces else transforms.Coordinates(field)


def _read_inverse_of(
    entry: Json, where: str, ndim: int | None, ndim_out: int | None, reading: Reading
) -> Transformation | None:
    """Return what the drafts called ``inverseOf``, inside other transformations."""
    inner = read(entry.get("transformation"), f"{where}.transformation", ndim_out, ndim, reading)
    if inner is None:
        return None
    try:
        return inner.inverse()
    except TransformationError as error:
        reading.complain(where, rules.TRANSFORMATION, str(error))
        return None


_Reader = Callable[[Json, str, int | None, int | None, Reading], Transformation | None]
_READERS: Mapping[str, _Reader] = {
    "identity": _read_identity,
    "mapAxis": _read_map_axis,
    "projectAxis": _read_project_axis,
    "translation": _read_translation,
    "scale": _read_scale,
    "affine": _read_affine,
    "rotation": _read_rotation,
    "sequence": _read_sequence,
    "bijection": _read_bijection,
    "byDimension": _read_by_dimension,
    "displacements": _read_field,
    "coordinates": _read_field,
    "inverseOf": _read_inverse_of,
}


def parameter_paths(entry: Any) -> set[str]:
    """Return the paths of arrays and fields in which a transformation keeps its parameters."""
    if isinstance(entry, list):
        return set().union(*(parameter_paths(item) for item in entry))
    if not isinstance(entry, dict):
        return set()
    path = entry.get("path")
    own = {path} if isinstance(path, str) and isinstance(entry.get("type"), str) else set()
    below = (entry.get(key) for key in ("transformations", "transformation", "forward", "inverse"))
    return own.union(*map(parameter_paths, below))


# The drafts of 0.6 wrote some things in other ways: from here on, one form


def normalised(
    value: Any,
    where: str,
    systems: Mapping[str, CoordinateSystem],
    complain: Complain,
) -> list[dict[str, Any]]:
    """Return the transformations of a list as version 0.6 writes them.

    Parameters
    ----------
    value
        The list. What is no object is left out.
    where
        Its JSON path.
    systems
        The coordinate systems that names of axes refer to.
    complain
        Takes each old form that was found.
    """
    if not isinstance(value, list) or not value:
        complain(where, rules.TRANSFORMATIONS, f"expected a list, found {shown(value)}")
        return []
    result = []
    for i, entry in enumerate(value):
        if not isinstance(entry, dict):
            found = f"expected an object, found {shown(entry)}"
            complain(f"{where}[{i}]", rules.TRANSFORMATION, found)
            continue
        result.append(_normalised_link(entry, f"{where}[{i}]", systems, complain))
    return result


def _normalised_link(
    entry: Json, where: str, systems: Mapping[str, CoordinateSystem], complain: Complain
) -> dict[str, Any]:
    ends = {
        key: end(entry[key], f"{where}.{key}", complain)
        for key in ("input", "output")
        if key in entry
    }
    if entry.get("type") == "inverseOf" and isinstance(entry.get("transformation"), dict):
        complain(where, rules.TRANSFORMATION, "inverseOf was dropped; read with its ends swapped")
        ends = {"input": ends.get("output"), "output": ends.get("input")}
        entry = {**entry, **entry["transformation"]}
        entry = {key: value for key, value in entry.items() if key != "transformation"}
        ends = {key: value for key, value in ends.items() if value is not None}
    names = [_axis_names(ends.get(key), systems) for key in ("input", "output")]
    return {**_normalised(entry, where, names[0], names[1], complain), **ends}


def _axis_names(reference: Any, systems: Mapping[str, CoordinateSystem]) -> tuple[str, ...] | None:
    name = reference.get("name") if isinstance(reference, dict) else None
    system = systems.get(name) if isinstance(name, str) else None
    return tuple(axis.name for axis in system.axes) if system else None


def end(value: Any, where: str, complain: Complain) -> Any:
    """Return a reference to a coordinate system as an object."""
    if not isinstance(value, str):
        return value
    complain(where, rules.ENDS, f"expected an object, found the text {shown(value)}")
    path, _, name = value.strip("/").rpartition("/")
    return {"name": name, "path": path} if path else {"name": name}


def _normalised(
    entry: Json,
    where: str,
    inputs: Sequence[str] | None,
    outputs: Sequence[str] | None,
    complain: Complain,
) -> dict[str, Any]:
    result = dict(entry)
    kind = entry.get("type")
    if kind == "inverseOf":
        found = "inverseOf was dropped: write the inverse itself"
        complain(f"{where}.type", rules.TRANSFORMATION, found)
        inner = entry.get("transformation")
        back = inverted(inner) if isinstance(inner, dict) else None
        if back is not None:
            return _normalised(back, where, inputs, outputs, complain)
    if kind == "mapAxis" and isinstance(entry.get("mapAxis"), dict):
        complain(f"{where}.mapAxis", rules.MAP_AXIS, "expected a list of indices, found names")
        order = _places([entry["mapAxis"].get(name) for name in outputs or ()], inputs)
        if order:
            result["mapAxis"] = order
    children = entry.get("transformations")
    if isinstance(children, list):
        place = f"{where}.transformations"
        if kind == "byDimension":
            result["transformations"] = [
                _normalised_part(item, f"{place}[{i}]", inputs, outputs, complain)
                for i, item in enumerate(children)
            ]
        else:
            result["transformations"] = [
                _normalised(item, f"{place}[{i}]", inputs, outputs, complain)
                if isinstance(item, dict)
                else item
                for i, item in enumerate(children)
            ]
    for key in ("forward", "inverse", "transformation"):
        if isinstance(entry.get(key), dict):
            ends = (outputs, inputs) if key == "inverse" else (inputs, outputs)
            result[key] = _normalised(entry[key], f"{where}.{key}", *ends, complain)
    return result


def inverted(entry: Json) -> dict[str, Any] | None:
    """Return the inverse of a transformation, None where 0.6 has no form for it."""
    if entry.get("type") == "bijection" and {"forward", "inverse"} <= set(entry):
        return {"type": "bijection", "forward": entry["inverse"], "inverse": entry["forward"]}
    found = read(entry, "", None, None, Reading(lambda path, rule, message: None))
    try:
        back = None if found is None else transforms.simplify(found.inverse(), _count(found))
    except TransformationError:
        return None
    if back is None:
        return None
    rows = transforms.matrix(back, _count(back))
    affine = None if rows is None else {"type": "affine", "affine": rows.tolist()}
    return _written(back) or affine


def _written(transformation: Transformation) -> dict[str, Any] | None:
    """Return the object that describes a simple transformation, None where it is another."""
    match transformation:
        case transforms.Identity():
            said: dict[str, Any] = {}
        case transforms.Scale(factors) if min(factors) > 0:
            said = {"scale": list(factors)}
        case transforms.Scale(factors):  # 0.6 knows no scale that mirrors
            rows = np.column_stack([np.diag(factors), np.zeros(len(factors))])
            said = {"affine": rows.tolist()}
        case transforms.Translation(offsets):
            said = {"translation": list(offsets)}
        case transforms.MapAxis(order):
            said = {"mapAxis": list(order)}
        case transforms.Affine(matrix):
            said = {"affine": [list(row) for row in matrix]}
        case _:
            return None
    return {"type": next(iter(said), "identity"), **said}


def chained(steps: Sequence[Json], ndim: int | None) -> dict[str, Any]:
    """Return what applies several transformations in order, without its ends.

    Parameters
    ----------
    steps
        The objects that describe them.
    ndim
        The number of input axes, None where that is not known.

    Examples
    --------
    >>> steps = [{"type": "scale", "scale": [2.0]}, {"type": "translation", "translation": [5.0]}]
    >>> chained([steps[0], {"type": "identity"}], 1)
    {'type': 'scale', 'scale': [2.0]}
    >>> chained(steps, 1) == {"type": "sequence", "transformations": steps}
    True
    """
    said = [{k: v for k, v in step.items() if k not in ("input", "output")} for step in steps]
    quiet = Reading(lambda path, rule, message: None)
    found = [read(step, "", None, None, quiet) for step in said]
    known = [step for step in found if step is not None]
    if ndim is not None and len(known) == len(said):
        try:
            whole = transforms.simplify(transforms.compose(known), ndim)
        except TransformationError:
            whole = transforms.compose(known)
        parts = whole.transformations if isinstance(whole, transforms.Sequence) else (whole,)
        simple = [_written(part) for part in parts]
        if len(simple) == 1 and simple[0] is not None:
            return simple[0]
        if all(part is not None for part in simple):
            said = [part for part in simple if part is not None]
    return {"type": "sequence", "transformations": said}


def _count(transformation: Transformation) -> int:
    """Return the number of axes that a transformation takes, as far as its parameters tell."""
    for ndim in range(1, _MOST_AXES + 1):
        try:
            transformation.ndim_out(ndim)
        except TransformationError:
            continue
        return ndim
    raise TransformationError("it takes no number of axes")


def _normalised_part(
    item: Any,
    where: str,
    inputs: Sequence[str] | None,
    outputs: Sequence[str] | None,
    complain: Complain,
) -> Any:
    if not isinstance(item, dict):
        return item
    result = dict(item)
    for old, key, names in (
        ("input_axes", "inputAxes", inputs),
        ("output_axes", "outputAxes", outputs),
    ):
        if old in result and key not in result:
            complain(f"{where}.{old}", rules.BY_DIMENSION, f"expected {key!r}")
            result[key] = result.pop(old)
        if isinstance(result.get(key), list) and any(isinstance(v, str) for v in result[key]):
            complain(f"{where}.{key}", rules.BY_DIMENSION, "expected indices, found names of axes")
            result[key] = _places(result[key], names) or result[key]
    if "transformation" not in result and "type" in result:
        complain(where, rules.BY_DIMENSION, "expected the transformation under 'transformation'")
        axes = {key: result.pop(key) for key in ("inputAxes", "outputAxes") if key in result}
        result = {**axes, "transformation": result}
    if isinstance(result.get("transformation"), dict):
        result["transformation"] = _normalised(
            result["transformation"], f"{where}.transformation", None, None, complain
        )
    return result


def _places(names: Iterable[Any], among: Sequence[str] | None) -> list[int] | None:
    """Return the index of each name, or None where one is not among them."""
    wanted = list(names)
    if among is None or not all(name in among for name in wanted):
        return None
    return [among.index(name) for name in wanted]
