"""Projections: slabs of a volume, one after another, to the plane that they project to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

Projection = Literal["max", "mean", "min"]
PROJECTIONS: tuple[Projection, ...] = get_args(Projection)

# of a number and NaN these take the number
_EXTREMES: Mapping[str, Callable[..., Any]] = {"max": np.fmax, "min": np.fmin}


def project(slabs: Iterable[NDArray[Any]], how: Projection) -> NDArray[Any]:
    """The projection of a volume that comes in slabs, of which only one is in memory.

    Parameters
    ----------
    slabs
        Arrays of at least one dimension, of one dtype and of the same shape but for the first
        axis, along which they are projected.
    how
        ``"max"``, ``"min"`` or ``"mean"``; NaN counts only where there is nothing else.

    Returns
    -------
    ndarray
        The shape of a slab without its first axis; of the slabs' dtype, a mean of float64.

    Raises
    ------
    ValueError
        When there is no slab or only empty ones, or no such projection.

    Examples
    --------
    >>> volume = np.array([[[1, 5]], [[3, 2]], [[8, 2]]], "u2")
    >>> project([volume[:2], volume[2:]], "max").tolist()
    [[8, 5]]
    >>> project(iter(volume[:, np.newaxis]), "mean").tolist()
    [[4.0, 3.0]]
    """
    if how not in PROJECTIONS:
        raise ValueError(f"the projection is {how!r}; expected one of {', '.join(PROJECTIONS)}")
    filled = (slab for slab in slabs if slab.shape[0])
    found = _mean(filled) if how == "mean" else _extreme(filled, _EXTREMES[how])
    if found is None:
        raise ValueError("no slabs: expected one or more that are not empty")
    return found


def _extreme(slabs: Iterable[NDArray[Any]], of: Any) -> NDArray[Any] | None:
    """The largest or smallest values."""
    found: NDArray[Any] | None = None
    for slab in slabs:
        plane = np.asarray(of.reduce(slab, axis=0))
        found = plane if found is None else np.asarray(of(found, plane))
    return found


def _mean(slabs: Iterable[NDArray[Any]]) -> NDArray[np.float64] | None:
    """The means of all values that are numbers, NaN where none is."""
    total: NDArray[np.float64] | None = None
    count: Any = 0
    for slab in slabs:
        is_float = slab.dtype.kind == "f"
        count = count + (np.count_nonzero(~np.isnan(slab), axis=0) if is_float else len(slab))
        with np.errstate(invalid="ignore", over="ignore"):  # infinities of both signs
            part = (np.nansum if is_float else np.sum)(slab, axis=0, dtype=np.float64)
            total = part if total is None else total + part
    with np.errstate(invalid="ignore"):
        return None if total is None else np.asarray(total / count)
