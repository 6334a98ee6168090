"""What every node can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import xarray as xr

from ngff_xarray import image
from ngff_xarray.errors import Issue
from ngff_xarray.unfinished import WAIT

if TYPE_CHECKING:
    from ngff_xarray.export.serving import Served
    from ngff_xarray.layout import Compressor, Sizes
    from ngff_xarray.mending import Repair
    from ngff_xarray.pyramid import Method
    from ngff_xarray.validation import Validation
    from ngff_xarray.verifying import Verification


ObjT = TypeVar("ObjT", xr.DataArray, xr.Dataset, xr.DataTree)


class Accessor(Generic[ObjT]):
    """What every node can do: say what it is, and be written."""

    def __init__(self, obj: ObjT) -> None:
        self._obj: ObjT = obj

    @property
    def kind(self) -> str:
        """``"image"``, ``"labels"``, ``"plate"``, ``"well"``, ``"collection"`` or ``"scene"``.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.kind, tree.ngff.labels["cell"].ngff.kind
        ('image', 'labels')
        """
        return image.kind(self._obj)

    @property
    def name(self) -> str | None:
        """The image's name, as the store gives it.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.name
        'cell'
        """
        return image.name(self._obj)

    @property
    def version(self) -> str | None:
        """The version of the specification that the store follows.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.version
        '0.5'
        """
        return image.version(self._obj)

    @property
    def issues(self) -> tuple[Issue, ...]:
        """What was wrong or odd in the store's metadata, and how it was read.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.issues  # nothing was odd
        ()
        """
        return image.issues(self._obj)

    def validate(self, *, progress: bool | None = None) -> Validation:
        """Return what the store, from this node on, breaks of the specification.

        The store is read again, with a bar if it takes long; see `ngff_xarray.validate`.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.validate().valid
        True
        """
        from ngff_xarray import groups
        from ngff_xarray.validation import validate_group

        return validate_group(*groups.place_now(self._obj), progress=progress)

    def verify(self, *, progress: bool | None = None) -> Verification:
        """Read every chunk; return which are missing and which cannot be read.

        See `ngff_xarray.verifying.verify`.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.verify().ok
        True
        """
        from ngff_xarray.verifying import verify

        return verify(self._obj, progress=progress)

    def repair(self) -> Repair:
        """Return what can be mended in the store; see `ngff_xarray.repair`.

        Nothing is changed before ``.apply()``, which keeps a backup of the documents it changes.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.repair().changes  # nothing to mend
        ()
        """
        from ngff_xarray import groups, store
        from ngff_xarray.mending import repair_group

        place, _ = groups.place(self._obj)
        return repair_group(place, store.look(place))

    def vizarr_url(self) -> str:
        """Return a link that opens its store, which is on the web, in vizarr.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> with tree.ngff.serve() as served:
        ...     xr.open_datatree(served.url).ngff.vizarr_url()
        'https://hms-dbmi.github.io/vizarr/?source=http%3A%2F%2F127.0.0.1...'
        """
        from ngff_xarray.export.links import vizarr_url

        return vizarr_url(self._obj)

    def validator_url(self) -> str:
        """Return a link that opens its store, which is on the web, in the OME-NGFF validator.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> with tree.ngff.serve() as served:
        ...     xr.open_datatree(served.url).ngff.validator_url()
        'https://ome.github.io/ome-ngff-validator/?source=http%3A%2F%2F127.0.0.1...'
        """
        from ngff_xarray.export.links import validator_url

        return validator_url(self._obj)

    def serve(self, *, port: int = 0) -> Served:
        """Put its store on a port of this machine, for viewers in the browser.

        ``with tree.ngff.serve() as served: served.url``; see `ngff_xarray.serve`.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> with tree.ngff.serve() as served:
        ...     xr.open_datatree(served.url).ngff.name
        'cell'
        """
        from ngff_xarray.export.serving import serve

        return serve(self._obj, port=port)

    def to_zarr(
        self,
        target: Any,
        *,
        mode: Literal["w-", "w"] = "w-",
        version: str | None = None,
        levels: int | None = None,
        scale_factors: Sequence[int | Mapping[str, int]] | None = None,
        sizes: Sequence[Mapping[str, int]] | None = None,
        smallest: int | Mapping[str, int] | None = None,
        method: Method | None = None,
        keep_ids: bool = False,
        chunks: Sizes = None,
        shards: Sizes = None,
        compressor: Compressor | None = None,
        lossy: bool = False,
        resume: str = "",
        progress: bool | None = None,
        wait: float = WAIT,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Write it as OME-Zarr, with all that its store said; see `ngff_xarray.write.to_zarr`.

        ``version`` is ``"0.4"``, ``"0.5"`` or ``"0.6"``, by default the one it was opened from.
        What it cannot say raises before anything is written, unless ``lossy=True``.
        ``mode="w"`` replaces what is there, once the new is whole. An array gets
        the levels of a pyramid, as `pyramid` makes them, written while the array is read.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.crop(x=slice("5 µm", "20 µm")).ngff.to_zarr("part.ome.zarr", version="0.4")
        >>> xr.open_datatree("part.ome.zarr").ngff.level(0).sizes["x"]
        141
        """
        from ngff_xarray.write import to_zarr

        to_zarr(
            self._obj,
            target,
            mode=mode,
            version=version,
            levels=levels,
            scale_factors=scale_factors,
            sizes=sizes,
            smallest=smallest,
            method=method,
            keep_ids=keep_ids,
            chunks=chunks,
            shards=shards,
            compressor=compressor,
            lossy=lossy,
            resume=resume,
            progress=progress,
            wait=wait,
            storage_options=storage_options,
        )

    def to_ome_tiff(self, path: str | PathLike[str], **options: Any) -> None:
        """Write it as OME-TIFF with its levels; see `ngff_xarray.export.ome_tiff`.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.to_ome_tiff("cell.ome.tif")
        >>> import tifffile
        >>> tifffile.imread("cell.ome.tif").shape
        (660, 550)
        """
        from ngff_xarray.export.ome_tiff import to_ome_tiff

        to_ome_tiff(self._obj, path, **options)

    def to_nifti(self, path: str | PathLike[str], **options: Any) -> None:
        """Write a level as NIfTI, placed by its coordinates; see `ngff_xarray.export.nifti`.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.to_nifti("cell.nii.gz", level="0.5 µm")
        >>> import nibabel
        >>> nibabel.load("cell.nii.gz").shape
        (138, 165)
        """
        from ngff_xarray.export.nifti import to_nifti

        to_nifti(self._obj, path, **options)

    def to_numpy(self, path: str | PathLike[str], **options: Any) -> None:
        """Write the pixels of a level as ``.npy``; see `ngff_xarray.export.numpy_file`.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.to_numpy("cell.npy", level=1)
        >>> import numpy as np
        >>> np.load("cell.npy").shape
        (1, 330, 275)
        """
        from ngff_xarray.export.numpy_file import to_numpy

        to_numpy(self._obj, path, **options)

    def copy_to(self, target: Any, **options: Any) -> None:
        """Copy it, or ``levels``, ``channels`` or a ``region``; see `ngff_xarray.export.copying`.

        ``tree.ngff.copy_to("part.ome.zarr", channels="DAPI", check=True)``. Called again after a
        kill, it goes on.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.copy_to("small.ome.zarr", levels=[1, 2], check=True)
        >>> xr.open_datatree("small.ome.zarr").ngff.level(0).shape
        (1, 330, 275)
        """
        from ngff_xarray.export.copying import copy_to

        copy_to(self._obj, target, **options)

    def to_mobie(self, directory: str | PathLike[str], **options: Any) -> None:
        """Write a project for MoBIE, or add to one; see `ngff_xarray.export.mobie`.

        ``plate.ngff.to_mobie("project")`` links to the store; ``copy=True`` copies its pixels.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.to_mobie("project")
        >>> from pathlib import Path
        >>> sorted(path.name for path in Path("project").iterdir())
        ['cell', 'project.json']
        """
        from ngff_xarray.export.mobie import to_mobie

        to_mobie(self._obj, directory, **options)

    def __repr__(self) -> str:
        from ngff_xarray.formatting import text

        return text(self._obj)

    def _repr_html_(self) -> str:
        from ngff_xarray.formatting import page

        return page(self._obj)
