"""NumPy's own file of an array: pixels and nothing else."""

from __future__ import annotations

import os

import numpy as np

from ngff_xarray.export.files import chosen, new_file, parts
from ngff_xarray.image import Obj
from ngff_xarray.progress import progress as progress_bar


def to_numpy(
    obj: Obj,
    path: str | os.PathLike[str],
    *,
    level: object = 0,
    overwrite: bool = False,
    progress: bool | None = None,
) -> None:
    """Write the pixels of a level as ``.npy``, a part at a time: its axes in the order they have.

    Parameters
    ----------
    obj
        An image or label image, as it is: cropped or computed.
    path
        The file.
    level
        Which level, by number or pixel size.
    overwrite
        Whether to replace a file.
    progress
        Whether to show how far it is; by default in notebooks and terminals, after a second.

    Raises
    ------
    StoreError
        If there is such a file, or it cannot be written.

    Examples
    --------
    >>> import tempfile, ngff_xarray, xarray as xr
    >>> tree = xr.open_datatree(ngff_xarray.sample("cell"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_numpy(tree, f"{folder}/cell.npy", level=1)
    ...     np.load(f"{folder}/cell.npy").shape
    (1, 330, 275)
    """
    array = chosen(obj, level)
    header = {
        "descr": np.lib.format.dtype_to_descr(array.dtype),
        "fortran_order": False,
        "shape": array.shape,
    }
    with (
        new_file(path, overwrite=overwrite) as part,
        progress_bar("writing", "B", progress, array.nbytes) as bar,
        part.open("wb") as file,
    ):
        np.lib.format.write_array_header_1_0(file, header)
        for pixels in parts(array):
            file.write(np.ascontiguousarray(pixels, array.dtype).data)
            bar.did(pixels.nbytes)
            bar.show()
