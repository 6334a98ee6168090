"""Label images below the patches of an image: what of them lies where a patch is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import pyramid
from ngff_xarray.analyse import places
from ngff_xarray.analyse.below import pixels_at
from ngff_xarray.analyse.label_arrays import taken
from ngff_xarray.boxes import Box
from ngff_xarray.errors import SelectionError
from ngff_xarray.pyramid.sources import Read
from ngff_xarray.text import printable


@dataclass(frozen=True)
class PatchLabels:
    """A label image, and which of its pixels holds the centre of each pixel of an image.

    Parameters
    ----------
    source
        Its pixels.
    at
        By axis of it: an index for each pixel of the image along that axis, -1 for none; None for
        the only pixel.
    order
        The axes of the image.
    """

    source: xr.Variable
    at: Mapping[str, NDArray[np.intp] | None]
    order: tuple[str, ...]

    @classmethod
    def of(cls, labels: xr.DataArray, array: xr.DataArray, name: str) -> PatchLabels:
        """Return those that lie below an image."""
        dims = places.axes_of(array)
        other = [str(d) for d in labels.dims if d not in dims]
        for dim in other:
            if labels.sizes[dim] > 1:
                raise SelectionError(
                    f"labels: {printable(name, 80)!r} has {labels.sizes[dim]} pixels along {dim}, "
                    f"an axis that patches have no place along; they have {', '.join(dims)}"
                )
        labels = taken(labels, dict.fromkeys(other, 0)) if other else labels
        at = {
            str(dim): pixels_at(labels[dim], array[dim])
            if labels.sizes[dim] > 1 or array.sizes[dim] == 1
            else None
            for dim in labels.dims
        }
        variable = labels.variable
        source = variable if variable.chunks is not None else pyramid.bare(variable)
        return cls(source, at, tuple(dims))

    def values(self, read: Read, box: Box) -> NDArray[Any]:
        """Return the labels in a box of the image, along its axes but that of channels."""
        shape = [side.stop - side.start for side in box]
        sides, picked = [], []
        outside: list[tuple[int, NDArray[np.bool_]]] = []
        for dim in map(str, self.source.dims):
            axis = self.order.index(dim)
            known = self.at[dim]
            which = np.zeros(shape[axis], np.intp) if known is None else known[box[axis]]
            has = which >= 0
            if not has.any():
                return np.zeros(shape, self.source.dtype)
            first, last = int(np.min(which[has])), int(np.max(which[has]))
            sides.append(slice(first, last + 1))
            picked.append(np.where(has, which - first, 0))
            if not has.all():
                outside.append((axis, ~has))
        found = read(tuple(sides))[np.ix_(*picked)] if picked else read(())
        own = [self.order.index(str(dim)) for dim in self.source.dims]
        found = found.transpose(np.argsort(own))
        found = found.reshape([n if axis in own else 1 for axis, n in enumerate(shape)])
        found = np.broadcast_to(found, shape).copy()
        for axis, gone in outside:
            key: Any = (*(slice(None),) * axis, gone)
            found[key] = 0
        return found
