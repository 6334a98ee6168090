"""Roots of many small systems of equations at once, by a damped Newton method."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

# what is to become 0: from points (number, n) and their goals to residuals (number, m), in units
# that make points and residuals of the order of 1
Residual = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]

TOLERANCE = 1e-9  # the residual that counts as solved
_ENOUGH = 1e-14  # the residual at which to stop
_STEP = 1e-7  # of the derivative
_STANDING = 1e-15  # a step that leads nowhere
_ROUNDS = 80
_MOST_DAMPING = 1e9


def solve(
    residual: Residual,
    goals: NDArray[np.float64],
    start: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return points where the residual is 0, and which of them are.

    The method is that of Levenberg and Marquardt: a Newton step, the shorter the more the steps
    before it failed. It serves piecewise smooth functions, whose derivatives it estimates.

    Parameters
    ----------
    residual
        The function: points and their goals to one vector each.
    goals
        One a point, shape ``(number, ...)``.
    start
        Where to start, shape ``(number, n)``.
    lower, upper
        Bounds of the points, shape ``(n,)``.

    Returns
    -------
    points, solved
        Those that are not solved stand where the search ended. A start whose residual is NaN
        stays where it is.

    Examples
    --------
    >>> goals, start, bound = np.array([[2.0], [-1.0]]), np.ones((2, 1)), np.array([10.0])
    >>> roots, solved = solve(lambda x, goal: x**2 - goal, goals, start, -bound, bound)
    >>> solved, roots[solved]
    (array([ True, False]), array([[1.41421356]]))
    """
    points = np.clip(start, lower, upper)
    with np.errstate(all="ignore"):  # what is not finite does not get better, and is not solved
        errors = residual(points, goals)
        damping = np.full(len(points), 1e-6)
        open_ = np.abs(errors).max(axis=1, initial=0) > _ENOUGH  # NaN is not
        for _ in range(_ROUNDS):
            which = np.flatnonzero(open_)
            if not len(which):
                break
            here, error, goal = points[which], errors[which], goals[which]
            slopes = _jacobian(residual, here, error, goal, upper)
            step = _step(slopes, error, damping[which], here <= lower, here >= upper)
            trial = np.clip(here + step, lower, upper)
            found = residual(trial, goal)
            better = (found**2).sum(axis=1) < (error**2).sum(axis=1)
            points[which[better]], errors[which[better]] = trial[better], found[better]
            damping[which] = np.where(
                better, damping[which] / 10, 10 * np.maximum(damping[which], 1e-4)
            )
            size = np.abs(errors[which]).max(axis=1)
            finished = (size <= _ENOUGH) | (~better & (size <= TOLERANCE / 100))
            stuck = (np.abs(trial - here).max(axis=1) < _STANDING) | (
                damping[which] > _MOST_DAMPING
            )
            open_[which] = ~finished & ~stuck
    return points, np.abs(errors).max(axis=1, initial=0) <= TOLERANCE


def _jacobian(
    residual: Residual,
    points: NDArray[np.float64],
    errors: NDArray[np.float64],
    goals: NDArray[np.float64],
    upper: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the derivatives by differences, shape ``(number, m, n)``: 0 where not finite."""
    result = np.empty((*errors.shape, points.shape[1]))
    for axis in range(points.shape[1]):
        moved = points.copy()
        moved[:, axis] += np.where(points[:, axis] + _STEP > upper[axis], -_STEP, _STEP)
        difference = (moved - points)[:, axis, None]
        result[:, :, axis] = (residual(moved, goals) - errors) / difference
    return np.where(np.isfinite(result), result, 0.0)


def _step(
    slopes: NDArray[np.float64],
    errors: NDArray[np.float64],
    damping: NDArray[np.float64],
    at_lower: NDArray[np.bool_],
    at_upper: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return the steps to take, along a bound where they would lead beyond it."""
    rise = (slopes * errors[:, :, None]).sum(axis=1)
    blocked = (at_lower & (rise > 0)) | (at_upper & (rise < 0))
    slopes = np.where(blocked[:, None, :], 0.0, slopes)
    turned = slopes.transpose(0, 2, 1)
    square = turned @ slopes
    size = np.trace(square, axis1=1, axis2=2)
    unit = np.eye(square.shape[1])
    square += (np.maximum(damping, 1e-13) * size + np.finfo(float).tiny)[:, None, None] * unit
    step: NDArray[np.float64] = -np.linalg.solve(square, turned @ errors[:, :, None])[:, :, 0]
    return step
