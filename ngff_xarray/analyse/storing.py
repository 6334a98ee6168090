"""Where a result is stored, and how: as a label image of its image, or as an image of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import xarray as xr

from ngff_xarray import labelling, layout, multiscale, read, store, write
from ngff_xarray.analyse.work import NAME, Work
from ngff_xarray.errors import StoreError
from ngff_xarray.storage import Access
from ngff_xarray.text import printable


class Stored(TypedDict, total=False):
    """What `to_zarr` and `add_labels` are told of the levels of a result."""

    levels: int | None
    scale_factors: Sequence[int | Mapping[str, int]] | None
    method: str | None
    chunks: layout.Sizes
    shards: layout.Sizes
    compressor: layout.Compressor | None


@dataclass(frozen=True)
class Storing:
    """How a result is stored.

    Parameters
    ----------
    levels
        Its levels.
    replace, version, progress, wait, storage_options
        As `to_zarr` and `add_labels` take them; ``version=None`` is that of its image.
    """

    levels: Stored
    replace: bool
    version: str | None
    progress: bool | None
    wait: float
    storage_options: Mapping[str, Any] | None

    @property
    def access(self) -> Access | None:
        """How its store is reached."""
        return None if self.storage_options is None else Access(self.storage_options)

    def beside_labels(self, tree: xr.DataTree, name: str) -> Work:
        """Return the place for what is done so far of a label image, if that can be added.

        Raises
        ------
        StoreError
            If there is one of this name.
        SelectionError
            If the image's store is not known.
        """
        place = labelling.check_addable(
            tree,
            name,
            replace=self.replace,
            wait=self.wait,
            storage_options=self.storage_options,
        )
        return Work(place.child(f"{NAME}-{name.replace('/', '-')}"))

    def beside_image(self, to: Any) -> Work | None:
        """Return the place for what is done so far of an image, if that can be stored.

        None where nothing can be beside it: a zarr store that is given as it is.

        Raises
        ------
        StoreError
            If there is something already.
        """
        place = store.open_target(to, access=self.access)
        if not self.replace and store.is_taken(place):
            raise StoreError(
                f"{printable(place.url, store.MAX_SHOWN)}: there is something already: give "
                "replace=True, or another place"
            )
        if not isinstance(to, str | os.PathLike):
            return None
        return Work(store.open_target(f"{os.fspath(to)}{NAME}", access=self.access))

    def write_labels(
        self, tree: xr.DataTree, name: str, labels: xr.DataArray, said: Mapping[str, Any]
    ) -> xr.DataTree:
        """Write labels to the store of their image; return that with them.

        Parameters
        ----------
        tree
            The image.
        name
            Theirs.
        labels
            Of one level.
        said
            What their metadata are to say.
        """
        return labelling.add_labels(
            tree,
            name,
            labels,
            replace=self.replace,
            attributes=said,
            progress=self.progress,
            wait=self.wait,
            storage_options=self.storage_options,
            **self._of(labels),
        )

    def write_image(
        self,
        to: Any,
        array: xr.DataArray,
        said: Mapping[str, Any],
        *,
        version: str | None,
        resume: str,
    ) -> xr.DataTree:
        """Write an image; return it, opened.

        Parameters
        ----------
        to
            Where.
        array
            Its finest level.
        said
            What its metadata are to say.
        version
            Of the specification, if none was asked for.
        resume
            As `to_zarr` takes it.
        """
        options: dict[str, Any] = dict(self._of(array))
        made = {key: options.pop(key) for key in ("levels", "scale_factors", "method")}
        tree = multiscale.multiscale(array, **made)
        tree.attrs = {**tree.attrs, **said}
        write.to_zarr(
            tree,
            to,
            mode="w" if self.replace else "w-",
            version=self.version or version,
            resume=resume,
            progress=self.progress,
            wait=self.wait,
            storage_options=self.storage_options,
            **options,
        )
        return read.open_tree(to, access=self.access)

    def _of(self, array: xr.DataArray) -> Stored:
        """Return the same for a result that lacks axes of its image."""
        found = self.levels.copy()
        for key in ("chunks", "shards"):
            sizes = found[key]
            if isinstance(sizes, Mapping):
                found[key] = {dim: n for dim, n in sizes.items() if dim in array.dims}
        return found


def label_name(to: Any) -> str | None:
    """Return the name of the label image that a target is; None if it is none.

    Examples
    --------
    >>> label_name("labels/nuclei"), label_name("nuclei.ome.zarr")
    ('nuclei', None)
    """
    return to.removeprefix("labels/") if isinstance(to, str) and to.startswith("labels/") else None
