"""What a command looks at: a store, or a file of any other format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from ngff_xarray.errors import NotOmeError
from ngff_xarray.urls import is_url, local_path, neighbour


def opened(
    source: str, *, group: str | None = None, options: Mapping[str, Any] | None = None
) -> xr.DataTree:
    """Return a store as a tree, or a file or dataset that `open_image` reads.

    Parameters
    ----------
    source
        A path or URL.
    group
        The part to open.
    options
        For fsspec.
    """
    try:
        return xr.open_datatree(source, engine="ngff", group=group, storage_options=options or None)
    except NotOmeError:
        path = Path(local_path(source)).expanduser()
        is_other = not is_url(str(path)) and (path.is_file() or neighbour(path) != "")
        if group is not None or not is_other:
            raise
    from ngff_xarray.converting import open_image

    return open_image(path)
