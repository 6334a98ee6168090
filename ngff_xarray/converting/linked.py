"""Where an image lies in a system that its own coordinates do not reach: an affine of 0.6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngff_xarray.converting.found import Size

_TYPES = {"t": "time", "c": "channel"}


def affine_to(
    system: str,
    matrix: NDArray[np.float64],
    axes: Sequence[str],
    sizes: Mapping[str, Size],
    intrinsic: str = "pixels",
) -> dict[str, Any]:
    """Return what an image says of an affine that leads from its coordinates to a system.

    Parameters
    ----------
    system
        Where it leads.
    matrix
        (3, 4): of x, y and z, in the units of their sizes.
    axes
        All axes of the image, those of space last.
    sizes
        Its pixel sizes, whose units those of the systems are.
    intrinsic
        What its own coordinates are called.

    Examples
    --------
    >>> affine_to("world", np.eye(3, 4), "yx", {})["coordinateTransformations"][0]["affine"]
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    order = ["xyz".index(axis) for axis in axes if axis in "xyz"]
    count = len(axes) - len(order)
    rows = np.zeros((len(axes), len(axes) + 1))
    rows[:count, :count] = np.eye(count)
    rows[count:, count:-1] = matrix[np.ix_(order, order)]
    rows[count:, -1] = matrix[order, 3]
    listed = [_axis(axis, sizes) for axis in axes]
    return {
        "intrinsic": intrinsic,
        "coordinateSystems": [
            {"name": name, "axes": [dict(axis) for axis in listed]} for name in (intrinsic, system)
        ],
        "coordinateTransformations": [
            {
                "type": "affine",
                "affine": rows.tolist(),
                "input": {"name": intrinsic},
                "output": {"name": system},
            }
        ],
    }


def _axis(name: str, sizes: Mapping[str, Size]) -> dict[str, Any]:
    unit = sizes[name][1] if name in sizes else None
    return {"name": name, "type": _TYPES.get(name, "space"), **({"unit": unit} if unit else {})}
