"""Transformations put together, made simpler, and read as a matrix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from ngff_xarray.transforms.composite import Bijection, ByDimension, Part, Sequence
from ngff_xarray.transforms.linear import (
    Affine,
    Identity,
    MapAxis,
    ProjectAxis,
    Rotation,
    Scale,
    Translation,
    rows,
)
from ngff_xarray.transforms.protocol import Transformation


def compose(transformations: Iterable[Transformation]) -> Transformation:
    """Return one transformation that applies all of them in order.

    Examples
    --------
    >>> dataset = [Scale((0.25,)), Translation((20.0,))]
    >>> world = compose([*dataset, Scale((2.0,)), Translation((100.0,))])
    >>> world.apply([[0.0], [1.0]]).ravel()
    array([140. , 140.5])
    """
    parts = tuple(transformations)
    return parts[0] if len(parts) == 1 else Sequence(parts)


def matrix(transformation: Transformation, ndim: int) -> NDArray[np.float64] | None:
    """Return the affine matrix of a transformation, or None where it is not linear.

    Parameters
    ----------
    transformation
        Any transformation; a `Bijection` counts as what it does forward.
    ndim
        The number of input axes.

    Returns
    -------
    matrix
        One row an output: a number for every input, and last the offset. Shape
        ``(ndim_out, ndim + 1)``.

    Raises
    ------
    TransformationError
        If the transformation does not take ``ndim`` axes.

    Examples
    --------
    >>> matrix(Sequence((MapAxis((1, 0)), Translation((5.0, 0.0)))), 2)
    array([[0., 1., 5.], [1., 0., 0.]])
    """
    match transformation:
        case Sequence(parts):
            return _matrix_of_sequence(parts, ndim)
        case ByDimension():
            return _matrix_by_dimension(transformation, ndim)
        case Bijection(forward):
            transformation.ndim_out(ndim)
            return matrix(forward, ndim)
    return _matrix_of_one(transformation, ndim)


def _matrix_of_one(transformation: Transformation, ndim: int) -> NDArray[np.float64] | None:
    match transformation:
        case Affine(numbers):
            transformation.ndim_out(ndim)
            return np.array(numbers, dtype=np.float64)
        case Translation(offsets):
            transformation.ndim_out(ndim)
            return np.column_stack([np.eye(ndim), offsets])
        case Identity() | Scale() | MapAxis() | ProjectAxis() | Rotation():
            linear = transformation.apply(np.eye(ndim)).T
            return np.column_stack([linear, np.zeros(len(linear))])
    return None


def _matrix_of_sequence(parts: tuple[Transformation, ...], ndim: int) -> NDArray[np.float64] | None:
    result = np.eye(ndim, ndim + 1)
    for part in parts:
        step = matrix(part, len(result))
        if step is None:
            return None
        result = _after(result, step)
    return result


def _after(first: NDArray[np.float64], then: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the affine matrix of two, one after the other."""
    with np.errstate(all="ignore"):  # what overflows is not finite: the caller sees it
        result = then[:, :-1] @ first
        result[:, -1] += then[:, -1]
    return result


def _matrix_by_dimension(whole: ByDimension, ndim: int) -> NDArray[np.float64] | None:
    result = np.zeros((whole.ndim_out(ndim), ndim + 1))
    for part in whole.parts:
        inner = matrix(part.transformation, len(part.inputs))
        if inner is None:
            return None
        for output, row in zip(part.outputs, inner, strict=True):
            np.add.at(result[output], [*part.inputs, ndim], row)  # an input may stand there twice
    return result


def simplify(transformation: Transformation, ndim: int) -> Transformation:
    """Return a transformation that says the same in fewer and simpler words.

    Sequences are flattened, identities dropped, and neighbours that are linear and keep the number
    of axes merged into the first of `Identity`, `Scale`, `Translation`, both, `MapAxis` and
    `Affine` that is enough. What else there is stays as it is: fields, projections, and bijections,
    whose stored inverses must not get lost.

    Parameters
    ----------
    transformation
        Any transformation.
    ndim
        The number of input axes.

    Raises
    ------
    TransformationError
        If the transformation does not take ``ndim`` axes.

    Examples
    --------
    >>> simplify(Sequence((Translation((1.0,)), Identity(), Scale((2.0,)))), 1)
    Sequence(transformations=(Scale(factors=(2.0,)), Translation(offsets=(2.0,))))
    >>> simplify(Sequence((MapAxis((1, 0)), MapAxis((1, 0)))), 2)
    Identity()
    """
    transformation.ndim_out(ndim)
    done: list[Transformation] = []
    run: list[Transformation] = []  # neighbours that are linear, and what they come to
    linear = np.eye(ndim, ndim + 1)
    for part in _flattened(transformation):
        step = _mergeable(part, len(linear))
        if step is not None and _keeps_its_digits(linear, step):
            run, linear = [*run, part], _after(linear, step)
            continue
        done += _simplest(run, linear)
        if step is not None:
            run, linear = [part], step
        else:
            done.append(_simplified_inside(part, len(linear)))
            ndim = part.ndim_out(len(linear))
            run, linear = [], np.eye(ndim, ndim + 1)
    parts = done + _simplest(run, linear)
    return compose(parts) if parts else Identity()


def _flattened(transformation: Transformation) -> Iterator[Transformation]:
    match transformation:
        case Identity():
            return
        case Sequence(parts):
            for part in parts:
                yield from _flattened(part)
        case _:
            yield transformation


def _mergeable(transformation: Transformation, ndim: int) -> NDArray[np.float64] | None:
    """Return the affine matrix of a transformation that loses nothing by being one."""
    if _is_more_than_its_matrix(transformation):
        return None
    linear = matrix(transformation, ndim)
    return linear if linear is not None and len(linear) == ndim else None


def _is_more_than_its_matrix(transformation: Transformation) -> bool:
    """Tell whether it has an inverse that its matrix has not, or another one."""
    match transformation:
        case Bijection() | ProjectAxis():
            return True
        case Sequence(parts):
            return any(map(_is_more_than_its_matrix, parts))
        case ByDimension(parts):
            return any(_is_more_than_its_matrix(part.transformation) for part in parts)
    return False


def _keeps_its_digits(first: NDArray[np.float64], then: NDArray[np.float64]) -> bool:
    """Tell whether floats hold the product of two affine matrices: nothing over- or underflows."""
    with np.errstate(all="ignore"):
        sizes = np.abs(then[:, :-1]) @ np.abs(first[:, :-1])
    filled = (then[:, :-1] != 0) @ (first[:, :-1] != 0)
    return bool(np.isfinite(_after(first, then)).all() and np.array_equal(sizes != 0, filled))


def _simplest(run: list[Transformation], linear: NDArray[np.float64]) -> list[Transformation]:
    """Return the fewest and simplest transformations that say what a run of them comes to."""
    square, offsets = linear[:, :-1], linear[:, -1]
    if _is_diagonal(linear):
        factors = np.diag(square)
        scale = [Scale(tuple(factors.tolist()))] if (factors != 1).any() else []
        return scale + ([Translation(tuple(offsets.tolist()))] if offsets.any() else [])
    order = square.argmax(axis=1)
    reordered = np.array_equal(square, np.eye(len(square))[order])
    if reordered and len(set(order.tolist())) == len(order) and not offsets.any():
        return [MapAxis(tuple(order.tolist()))]
    if len(run) == 1 and isinstance(run[0], Rotation):
        return run
    return [Affine(rows(linear))]


def _simplified_inside(transformation: Transformation, ndim: int) -> Transformation:
    match transformation:
        case Bijection(forward, backward):
            return Bijection(simplify(forward, ndim), simplify(backward, forward.ndim_out(ndim)))
        case ByDimension(parts):
            return ByDimension(
                tuple(
                    Part(simplify(part.transformation, len(part.inputs)), part.inputs, part.outputs)
                    for part in parts
                )
            )
    return transformation


def scale_and_translation(
    transformation: Transformation, ndim: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the scale and the translation (applied after it) that say the same.

    Parameters
    ----------
    transformation
        Any that is linear and leaves the axes apart and in order.
    ndim
        The number of axes.

    Returns
    -------
    scale, translation
        One number an axis each.

    Raises
    ------
    TypeError
        If the transformation is more than a scale and a translation.
    TransformationError
        If it does not take ``ndim`` axes.

    Examples
    --------
    >>> scale_and_translation(Sequence((Translation((1.0,)), Scale((2.0,)))), 1)
    ((2.0,), (2.0,))
    >>> scale_and_translation(Affine(((2.0, 0.0, 5.0), (0.0, 4.0, 0.0))), 2)
    ((2.0, 4.0), (5.0, 0.0))
    """
    match transformation:
        case Identity():
            return (1.0,) * ndim, (0.0,) * ndim
        case Scale(factors):
            return factors, (0.0,) * transformation.ndim_out(ndim)
        case Translation(offsets):
            return (1.0,) * transformation.ndim_out(ndim), offsets
        case Sequence(parts) if all(map(_is_plain, parts)):
            scale, translation = (1.0,) * ndim, (0.0,) * ndim
            for part in parts:
                factors, offsets = scale_and_translation(part, ndim)
                scale = tuple(f * s for f, s in zip(factors, scale, strict=True))
                translation = tuple(
                    f * t + o for f, t, o in zip(factors, translation, offsets, strict=True)
                )
            return scale, translation
    linear = matrix(transformation, ndim)
    if linear is None or not _is_diagonal(linear):
        raise TypeError(f"{type(transformation).__name__} is not a scale and a translation")
    return tuple(np.diag(linear).tolist()), tuple(linear[:, -1].tolist())


def _is_plain(transformation: Transformation) -> bool:
    """Tell whether plain floats compose it: without a matrix, overflow is no warning."""
    match transformation:
        case Identity() | Scale() | Translation():
            return True
        case Sequence(parts):
            return all(map(_is_plain, parts))
    return False


def _is_diagonal(linear: NDArray[np.float64]) -> bool:
    square = linear[:, :-1]
    return square.shape[0] == square.shape[1] and not square[~np.eye(len(square), dtype=bool)].any()
