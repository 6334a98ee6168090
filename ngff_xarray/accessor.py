"""The ``.ngff`` accessor: doors to the functions, chosen by what an object is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

import xarray as xr

from ngff_xarray import image, ops, selection
from ngff_xarray.errors import Issue, NotOmeError
from ngff_xarray.model import Axis, Channel
from ngff_xarray.unfinished import WAIT

if TYPE_CHECKING:
    import dask.array as da
    import numpy as np
    import pandas as pd
    import pint
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray
    from ome_types import OME
    from PIL.Image import Image
    from spatialdata import SpatialData
    from tensorstore import TensorStore

    from ngff_xarray.animation import Animation
    from ngff_xarray.channels import Channels
    from ngff_xarray.export.neuroglancer import Neuroglancer
    from ngff_xarray.export.serving import Served
    from ngff_xarray.layout import Compressor, Sizes
    from ngff_xarray.mending import Repair
    from ngff_xarray.model import RGBA, CoordinateSystem
    from ngff_xarray.overlay import Labels, Names
    from ngff_xarray.pyramid import Method
    from ngff_xarray.render import Projection
    from ngff_xarray.validation import Validation
    from ngff_xarray.verifying import Verification
    from ngff_xarray.widgets.groups import GroupViewer
    from ngff_xarray.widgets.plates import PlateViewer
    from ngff_xarray.widgets.viewer import Viewer

ObjT = TypeVar("ObjT", xr.DataArray, xr.Dataset, xr.DataTree)


class Accessor(Generic[ObjT]):
    """What every node can do: say what it is, and be written."""

    def __init__(self, obj: ObjT) -> None:
        self._obj: ObjT = obj

    @property
    def kind(self) -> str:
        """``"image"``, ``"labels"``, ``"plate"``, ``"well"``, ``"collection"`` or ``"scene"``."""
        return image.kind(self._obj)

    @property
    def name(self) -> str | None:
        """The image's name, as the store gives it."""
        return image.name(self._obj)

    @property
    def version(self) -> str | None:
        """The version of the specification that the store follows."""
        return image.version(self._obj)

    @property
    def issues(self) -> tuple[Issue, ...]:
        """What was wrong or odd in the store's metadata, and how it was read."""
        return image.issues(self._obj)

    def validate(self, *, progress: bool | None = None) -> Validation:
        """Return what the store, from this node on, breaks of the specification.

        The store is read again, with a bar if it takes long; see `ngff_xarray.validate`.
        """
        from ngff_xarray import groups
        from ngff_xarray.validation import validate_group

        return validate_group(*groups.place_now(self._obj), progress=progress)

    def verify(self, *, progress: bool | None = None) -> Verification:
        """Read every chunk; return which are missing and which cannot be read.

        See `ngff_xarray.verifying.verify`.
        """
        from ngff_xarray.verifying import verify

        return verify(self._obj, progress=progress)

    def repair(self) -> Repair:
        """Return what can be mended in the store; see `ngff_xarray.repair`.

        Nothing is changed before ``.apply()``, which keeps a backup of the documents it changes.
        """
        from ngff_xarray import groups, store
        from ngff_xarray.mending import repair_group

        place, _ = groups.place(self._obj)
        return repair_group(place, store.look(place))

    def vizarr_url(self) -> str:
        """Return a link that opens its store, which is on the web, in vizarr."""
        from ngff_xarray.export.links import vizarr_url

        return vizarr_url(self._obj)

    def validator_url(self) -> str:
        """Return a link that opens its store, which is on the web, in the OME-NGFF validator."""
        from ngff_xarray.export.links import validator_url

        return validator_url(self._obj)

    def serve(self, *, port: int = 0) -> Served:
        """Put its store on a port of this machine, for viewers in the browser.

        ``with tree.ngff.serve() as served: served.url``; see `ngff_xarray.serve`.
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
        progress: bool | None = None,
        wait: float = WAIT,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Write it as OME-Zarr, with all that its store said; see `ngff_xarray.write.to_zarr`.

        ``version`` is ``"0.4"``, ``"0.5"`` or ``"0.6"``, by default the one it was opened from.
        What it cannot say raises before anything is written, unless ``lossy=True``.
        ``mode="w"`` replaces what is there, once the new is whole. An array gets
        the levels of a pyramid, as `pyramid` makes them, written while the array is read.
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
            progress=progress,
            wait=wait,
            storage_options=storage_options,
        )

    def to_ome_tiff(self, path: str | PathLike[str], **options: Any) -> None:
        """Write it as OME-TIFF with its levels; see `ngff_xarray.export.ome_tiff`."""
        from ngff_xarray.export.ome_tiff import to_ome_tiff

        to_ome_tiff(self._obj, path, **options)

    def to_nifti(self, path: str | PathLike[str], **options: Any) -> None:
        """Write a level as NIfTI, placed by its coordinates; see `ngff_xarray.export.nifti`."""
        from ngff_xarray.export.nifti import to_nifti

        to_nifti(self._obj, path, **options)

    def to_numpy(self, path: str | PathLike[str], **options: Any) -> None:
        """Write the pixels of a level as ``.npy``; see `ngff_xarray.export.numpy_file`."""
        from ngff_xarray.export.numpy_file import to_numpy

        to_numpy(self._obj, path, **options)

    def copy_to(self, target: Any, **options: Any) -> None:
        """Copy it, or ``levels``, ``channels`` or a ``region``; see `ngff_xarray.export.copying`.

        ``tree.ngff.copy_to("part.ome.zarr", channels="DAPI", check=True)``. Called again after a
        kill, it goes on.
        """
        from ngff_xarray.export.copying import copy_to

        copy_to(self._obj, target, **options)

    def __repr__(self) -> str:
        from ngff_xarray.formatting import text

        return text(self._obj)

    def _repr_html_(self) -> str:
        from ngff_xarray.formatting import page

        return page(self._obj)


class ImageAccessor(Accessor[ObjT]):
    """What an image can do, be it a tree of levels, one level as a Dataset, or an array."""

    def write_region(
        self,
        target: Any,
        *,
        region: Mapping[str, slice] | None = None,
        progress: bool | None = None,
        wait: float = WAIT,
        storage_options: Mapping[str, Any] | None = None,
        **where: Any,
    ) -> None:
        """Write its pixels into an image that is there; see `ngff_xarray.regions.write_region`.

        Coordinates say where (or ``region``, in pixels), ``x=slice("10 µm", "60 µm")`` which part.
        All levels follow; only the chunks that are touched are written.
        """
        from ngff_xarray.regions import write_region

        write_region(
            self._obj,
            target,
            region=region,
            progress=progress,
            wait=wait,
            storage_options=storage_options,
            **where,
        )

    def append(
        self,
        target: Any,
        *,
        dim: str = "t",
        progress: bool | None = None,
        wait: float = WAIT,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Write its pixels behind the last ones of an image; see `ngff_xarray.regions.append`.

        All levels grow along ``dim``, once all chunks are there.
        """
        from ngff_xarray.regions import append

        append(
            self._obj,
            target,
            dim=dim,
            progress=progress,
            wait=wait,
            storage_options=storage_options,
        )

    def pyramid(
        self,
        *,
        levels: int | None = None,
        scale_factors: Sequence[int | Mapping[str, int]] | None = None,
        sizes: Sequence[Mapping[str, int]] | None = None,
        smallest: int | Mapping[str, int] | None = None,
        method: Method | None = None,
        keep_ids: bool = False,
    ) -> xr.DataTree:
        """Return the image with a pyramid of levels; see `ngff_xarray.multiscale.multiscale`.

        Levels are computed when pixels are asked for; ``to_zarr`` writes them out of core.
        ``method`` is ``"mean"`` by default, and ``"mode"`` for label images.
        """
        from ngff_xarray.multiscale import multiscale

        return multiscale(
            self._obj,
            levels=levels,
            scale_factors=scale_factors,
            sizes=sizes,
            smallest=smallest,
            method=method,
            keep_ids=keep_ids,
        )

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes: name, type and unit, in the order of the dimensions."""
        return image.axes(self._obj)

    @property
    def units(self) -> dict[str, str | None]:
        """Axis name -> unit: the specification's name, or the store's text where it has none."""
        return image.unit_texts(self._obj)

    @property
    def pixel_size(self) -> dict[str, pint.Quantity[float]]:
        """Axis name -> distance of neighbouring pixels, as a pint quantity."""
        return image.pixel_quantities(self._obj)

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels still there: name, colour and window as stored."""
        return image.channels(self._obj)

    @property
    def levels(self) -> tuple[xr.DataArray, ...]:
        """The array of every level, finest first."""
        return image.levels(self._obj)

    def level(
        self,
        number: int | None = None,
        *,
        pixel_size: object = None,
        max_pixels: int | None = None,
        nbytes: int | str | None = None,
    ) -> xr.DataArray:
        """Return one level, by exactly one of the criteria; see `ngff_xarray.ops.level`.

        ``level(0)`` is the finest and ``level(-1)`` the coarsest; ``pixel_size="1 µm"`` the
        coarsest whose pixels are no larger; ``max_pixels=2**20`` (of a y-x plane) and
        ``nbytes="100 MB"`` the finest that is no larger.
        """
        return ops.level(
            self._obj, number, pixel_size=pixel_size, max_pixels=max_pixels, nbytes=nbytes
        )

    def sel(
        self, indexers: Mapping[str, Any] | None = None, *, level: object = None, **at: Any
    ) -> Any:
        """Return a position or region in physical units; see `ngff_xarray.selection.sel`.

        ``sel(x=slice("10 µm", "60 µm"), z="3 µm", c="DAPI")``: numbers are in the axis's unit.
        In a tree every level, and every label image, covers the same region; with ``level`` (a
        number or a pixel size) that level comes back alone, as an array.
        """
        return selection.sel(self._obj, {**(indexers or {}), **at}, which=level)

    def crop(self, regions: Mapping[str, slice] | None = None, **region: slice) -> ObjT:
        """Return a region with all its axes, in physical units; see `sel`."""
        return selection.crop(self._obj, {**(regions or {}), **region})

    @property
    def coordinate_systems(self) -> dict[str, CoordinateSystem]:
        """Name -> coordinate system that points and pixels can be transformed to."""
        from ngff_xarray import world

        return world.coordinate_systems(self._obj)

    def transform(
        self, points: ArrayLike | Mapping[str, Any], *, from_: str | None = None, to: str
    ) -> NDArray[np.float64]:
        """Return points (n, axes) of one coordinate system in another; see `world.transform`.

        ``transform([[10.0, 20.0]], to="registered")``; ``from_`` is the system of the
        coordinates, and may be the path of a level, whose points are pixel indices.
        """
        from ngff_xarray import world

        return world.transform(self._obj, points, from_=from_, to=to)

    def to_system(self, name: str) -> ObjT:
        """Return it with coordinates in another system; see `ngff_xarray.world.to_system`.

        No pixel is moved. Where the system rotates or shears the image, its coordinates have two
        or three dimensions: ``.plot(x="x", y="y")`` of an array draws it in place.
        """
        from ngff_xarray import world

        return world.to_system(self._obj, name)

    def resample(
        self,
        pixel_size: object = None,
        *,
        system: str | None = None,
        like: Any = None,
        method: Literal["linear", "nearest"] | None = None,
        fill: float | None = None,
        level: object = None,
    ) -> xr.DataArray:
        """Return it lazily on a regular grid, in any system; see `ngff_xarray.world.resample`.

        ``resample("1 µm", system="registered")``, or ``resample(like=other)`` for the grid of
        another image.
        """
        from ngff_xarray import world

        return world.resample(
            self._obj,
            pixel_size,
            system=system,
            like=like,
            method=method,
            fill=fill,
            level=level,
        )

    def quantify(self) -> ObjT:
        """Return it with pint quantities as coordinates; see `ngff_xarray.ops.quantify`."""
        return ops.quantify(self._obj)

    def rgb(
        self,
        *,
        labels: Labels = None,
        outline: bool = False,
        opacity: float = 0.5,
        selected: Collection[int] | None = None,
        level: object = None,
        channels: Channels = None,
        projection: Projection | None = None,
        max_pixels: int = 2**20,
        **position: Any,
    ) -> xr.DataArray:
        """Return a plane in colour, uint8 (y, x, rgb); see `ngff_xarray.picture.rgb`.

        ``rgb(z="3 µm", channels={"DAPI": "magma"}, labels="nuclei")``; ``projection="max"`` over z.
        """
        from ngff_xarray.picture import rgb

        return rgb(
            self._obj,
            labels=labels,
            outline=outline,
            opacity=opacity,
            selected=selected,
            level=level,
            channels=channels,
            projection=projection,
            max_pixels=max_pixels,
            **position,
        )

    def plot(
        self,
        *,
        ax: Axes | None = None,
        kind: Literal["plane", "ortho"] = "plane",
        facet: str | None = None,
        panels: int = 12,
        over: Any = (),
        system: str | None = None,
        labels: Labels = None,
        outline: bool = False,
        opacity: float | Sequence[float] = 0.5,
        selected: Collection[int] | None = None,
        level: object = None,
        channels: Channels = None,
        projection: Projection | None = None,
        scale_bar: bool = True,
        legend: bool = True,
        title: str | None = None,
        **position: Any,
    ) -> Any:
        """Draw a plane with physical axes and a scale bar; see `ngff_xarray.plot.plot`.

        ``plot(z="3 µm", labels="nuclei", outline=True)``; ``facet="t"`` for panels,
        ``kind="ortho"`` for three planes through a point, ``over=[other]`` for other images where
        their transformations place them.
        """
        from ngff_xarray.plot import plot

        return plot(
            self._obj,
            ax=ax,
            kind=kind,
            facet=facet,
            panels=panels,
            over=over,
            system=system,
            labels=labels,
            outline=outline,
            opacity=opacity,
            selected=selected,
            level=level,
            channels=channels,
            projection=projection,
            scale_bar=scale_bar,
            legend=legend,
            title=title,
            **position,
        )

    def view(
        self,
        *,
        labels: Labels = None,
        channels: Sequence[str] | str | None = None,
        height: int = 480,
        **position: Any,
    ) -> Viewer:
        """Return a viewer that follows the hand; see `ngff_xarray.widgets.viewer.view`.

        ``view(labels="nuclei", channels="DAPI", z="3 µm")``. What it shows can be read and set:
        ``viewer.position``, ``.channels``, ``.viewport``, ``.roi``, ``.selection``.
        """
        from ngff_xarray.widgets.viewer import view

        return view(self._obj, labels=labels, channels=channels, height=height, **position)

    def to_napari(
        self, *, channels: Channels = None, labels: Names = True, as_tuples: bool = False
    ) -> Any:
        """Return its layers for napari, lazily indexed; see `ngff_xarray.export.napari.to_napari`.

        ``viewer.layers.extend(tree.ngff.to_napari())``; ``as_tuples=True`` gives those of readers.
        """
        from ngff_xarray.export.napari import to_napari

        return to_napari(self._obj, channels=channels, labels=labels, as_tuples=as_tuples)

    def to_dask(self, level: object = 0, *, by: Literal["shards", "chunks"] = "shards") -> da.Array:
        """Return a level as a dask array, a block a shard or chunk; see `export.dask.to_dask`."""
        from ngff_xarray.export.dask import to_dask

        return to_dask(self._obj, level, by=by)

    def to_itk(
        self,
        level: object = 0,
        *,
        library: Literal["itk", "SimpleITK"] | None = None,
        unit: str | None = None,
    ) -> Any:
        """Return a level as an image of ITK or SimpleITK; see `ngff_xarray.export.itk.to_itk`.

        With spacing, origin and direction: ``to_itk("1 µm", unit="millimeter")``.
        """
        from ngff_xarray.export.itk import to_itk

        return to_itk(self._obj, level, library=library, unit=unit)

    def thumbnail(self, size: int = 144) -> Image:
        """Return a small picture of the coarsest level; see `ngff_xarray.thumbnails.thumbnail`."""
        from ngff_xarray.thumbnails import thumbnail

        return thumbnail(self._obj, size)

    def animate(
        self,
        dim: str = "t",
        path: str | PathLike[str] | None = None,
        *,
        fps: float = 8,
        frames: int = 100,
        max_pixels: int = 2**18,
        annotate: bool = True,
        labels: Labels = None,
        outline: bool = False,
        opacity: float = 0.5,
        selected: Collection[int] | None = None,
        level: object = None,
        channels: Channels = None,
        projection: Projection | None = None,
        **position: Any,
    ) -> Animation:
        """Return pictures along an axis as a film; see `ngff_xarray.animation.animate`.

        ``animate("z")`` shows in a notebook; ``animate("t", "growth.gif")`` is written too.
        """
        from ngff_xarray.animation import animate

        return animate(
            self._obj,
            dim,
            path,
            fps=fps,
            frames=frames,
            max_pixels=max_pixels,
            annotate=annotate,
            labels=labels,
            outline=outline,
            opacity=opacity,
            selected=selected,
            level=level,
            channels=channels,
            projection=projection,
            **position,
        )


class TreeAccessor(ImageAccessor[xr.DataTree]):
    """What a tree of levels can do besides."""

    @property
    def labels(self) -> dict[str, xr.DataTree]:
        """Path -> label image, each a tree of its own."""
        return image.label_images(self._obj)

    def add_labels(
        self,
        name: str,
        labels: Any,
        *,
        properties: Any = None,
        colors: Mapping[Any, Any] | None = None,
        replace: bool = False,
        levels: int | None = None,
        scale_factors: Sequence[int | Mapping[str, int]] | None = None,
        sizes: Sequence[Mapping[str, int]] | None = None,
        smallest: int | Mapping[str, int] | None = None,
        method: Method | None = None,
        keep_ids: bool = False,
        chunks: Sizes = None,
        shards: Sizes = None,
        compressor: Compressor | None = None,
        progress: bool | None = None,
        wait: float = WAIT,
        target: Any = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> xr.DataTree:
        """Write a label image into the image's store; see `ngff_xarray.labelling.add_labels`.

        ``tree = tree.ngff.add_labels("nuclei", labels, properties=table, colors={1: "red"})``:
        the image comes back opened again. A DataArray is placed by its coordinates;
        ``replace=True`` keeps the old one until the new one is whole.
        """
        from ngff_xarray.labelling import add_labels

        return add_labels(
            self._obj,
            name,
            labels,
            properties=properties,
            colors=colors,
            replace=replace,
            levels=levels,
            scale_factors=scale_factors,
            sizes=sizes,
            smallest=smallest,
            method=method,
            keep_ids=keep_ids,
            chunks=chunks,
            shards=shards,
            compressor=compressor,
            progress=progress,
            wait=wait,
            target=target,
            storage_options=storage_options,
        )

    def remove_labels(
        self,
        name: str,
        *,
        wait: float = WAIT,
        target: Any = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> xr.DataTree:
        """Delete a label image; see `ngff_xarray.labelling.remove_labels`."""
        from ngff_xarray.labelling import remove_labels

        return remove_labels(
            self._obj, name, wait=wait, target=target, storage_options=storage_options
        )

    def to_neuroglancer(
        self, *, channels: Channels = None, labels: Names = True, serve: bool | None = None
    ) -> Neuroglancer:
        """Return it for Neuroglancer; see `ngff_xarray.export.neuroglancer.to_neuroglancer`.

        ``to_neuroglancer().show()`` in the browser of this machine; ``.link()`` for a public one.
        """
        from ngff_xarray.export.neuroglancer import to_neuroglancer

        return to_neuroglancer(self._obj, channels=channels, labels=labels, serve=serve)

    def tensorstore_spec(self, level: object = 0) -> dict[str, Any]:
        """Return by what TensorStore opens a level; see `export.tensorstore.tensorstore_spec`."""
        from ngff_xarray.export.tensorstore import tensorstore_spec

        return tensorstore_spec(self._obj, level)

    def to_tensorstore(self, level: object = 0) -> TensorStore:
        """Return a level opened by TensorStore; see `ngff_xarray.export.tensorstore`.

        ``tree.ngff.to_tensorstore("1 µm")[0, :512, :512].read().result()``.
        """
        from ngff_xarray.export.tensorstore import to_tensorstore

        return to_tensorstore(self._obj, level)

    def to_spatialdata(
        self, *, name: str | None = None, system: str = "global", unit: str | None = None
    ) -> SpatialData:
        """Return it with its labels and their tables; see `ngff_xarray.export.spatialdata`."""
        from ngff_xarray.export.spatialdata import to_spatialdata

        return to_spatialdata(self._obj, name=name, system=system, unit=unit)

    @property
    def multiscales(self) -> tuple[xr.DataTree, ...]:
        """All images of a group that holds several, this one first, each a tree of its own."""
        from ngff_xarray import groups

        return groups.multiscales(self._obj)

    def map(self, func: Callable[..., xr.DataArray], **kwargs: Any) -> xr.DataTree:
        """Return the tree with ``func`` applied to the array of every level; labels stay."""
        return ops.map_levels(self._obj, func, **kwargs)


class LabelsAccessor(TreeAccessor):
    """What a label image can do besides."""

    @property
    def colors(self) -> dict[int, RGBA]:
        """Label value -> stored colour: red, green, blue and alpha, 0 to 255."""
        return image.label_colors(self._obj)

    @property
    def properties(self) -> pd.DataFrame:
        """The stored properties: a row a label value, which is the index."""
        return image.label_properties(self._obj)


class GroupAccessor(Accessor[xr.DataTree]):
    """What a group of images can do."""

    @property
    def images(self) -> dict[str, xr.DataTree]:
        """Path -> image, each a tree of its own; those of a collection in its order."""
        from ngff_xarray import groups

        return groups.images(self._obj)

    @property
    def ome_xml(self) -> str | None:
        """The OME-XML of a store that Bio-Formats wrote, read now; None if there is none."""
        from ngff_xarray import groups

        return groups.ome_xml(self._obj)

    @property
    def ome(self) -> OME:
        """The OME-XML as objects of ome-types, where that is installed."""
        from ngff_xarray import groups

        return groups.ome(self._obj)

    def rgb(
        self,
        *,
        field: int = 0,
        labels: Labels = None,
        outline: bool = False,
        opacity: float = 0.5,
        selected: Collection[int] | None = None,
        level: object = None,
        channels: Channels = None,
        projection: Projection | None = None,
        max_pixels: int = 2**20,
        **position: Any,
    ) -> xr.DataArray:
        """Return its images in one picture, uint8 (y, x, rgb); see `ngff_xarray.mosaic.rgb`."""
        from ngff_xarray.mosaic import rgb

        return rgb(
            self._obj,
            field=field,
            labels=labels,
            outline=outline,
            opacity=opacity,
            selected=selected,
            level=level,
            channels=channels,
            projection=projection,
            max_pixels=max_pixels,
            **position,
        )

    def plot(
        self,
        *,
        ax: Axes | None = None,
        values: Any = None,
        colormap: str | None = None,
        field: int = 0,
        panels: int = 12,
        labels: Labels = None,
        outline: bool = False,
        opacity: float = 0.5,
        selected: Collection[int] | None = None,
        level: object = None,
        channels: Channels = None,
        projection: Projection | None = None,
        scale_bar: bool = True,
        legend: bool = True,
        title: str | None = None,
        **position: Any,
    ) -> Any:
        """Draw a plate as a mosaic, other images side by side; see `ngff_xarray.plot.plot_group`.

        ``plot(values=frame["count"])`` draws a number a well as a heat map instead.
        """
        from ngff_xarray.plot import plot_group

        return plot_group(
            self._obj,
            ax=ax,
            values=values,
            colormap=colormap,
            field=field,
            panels=panels,
            labels=labels,
            outline=outline,
            opacity=opacity,
            selected=selected,
            level=level,
            channels=channels,
            projection=projection,
            scale_bar=scale_bar,
            legend=legend,
            title=title,
            **position,
        )

    def thumbnail(self, size: int = 288) -> Image:
        """Return its images in one small picture; see `ngff_xarray.thumbnails.thumbnail`."""
        from ngff_xarray.thumbnails import thumbnail

        return thumbnail(self._obj, size)


class CollectionAccessor(GroupAccessor):
    """What a collection can do."""

    def view(
        self,
        *,
        labels: Labels = None,
        channels: Sequence[str] | str | None = None,
        height: int = 480,
        **position: Any,
    ) -> GroupViewer:
        """Return a viewer of one image, chosen by name; see `widgets.groups.view_group`."""
        from ngff_xarray.widgets.groups import view_group

        return view_group(self._obj, labels=labels, channels=channels, height=height, **position)


class SceneAccessor(GroupAccessor):
    """What a scene can do."""

    def view(
        self,
        *,
        system: str | None = None,
        labels: Labels = None,
        channels: Sequence[str] | str | None = None,
        height: int = 480,
        **position: Any,
    ) -> Viewer:
        """Return a viewer of all images in one system; see `widgets.groups.view_scene`.

        ``view(system="world")``; by default in the scene's first system.
        """
        from ngff_xarray.widgets.groups import view_scene

        return view_scene(
            self._obj, system=system, labels=labels, channels=channels, height=height, **position
        )

    def to_napari(
        self,
        *,
        system: str | None = None,
        channels: Channels = None,
        labels: Names = True,
        as_tuples: bool = False,
    ) -> Any:
        """Return the layers of its images in one system; see `export.napari.scene_to_napari`."""
        from ngff_xarray.export.napari import scene_to_napari

        return scene_to_napari(
            self._obj, system=system, channels=channels, labels=labels, as_tuples=as_tuples
        )

    @property
    def coordinate_systems(self) -> dict[str, CoordinateSystem]:
        """Name -> coordinate system; those of images under ``path/name``."""
        from ngff_xarray import world

        return world.coordinate_systems(self._obj)

    def transform(
        self, points: ArrayLike | Mapping[str, Any], *, from_: str, to: str
    ) -> NDArray[np.float64]:
        """Return points (n, axes) of one coordinate system in another; see `world.transform`.

        ``transform(points, from_="tile_0/physical", to="world")``.
        """
        from ngff_xarray import world

        return world.transform(self._obj, points, from_=from_, to=to)

    def to_system(self, name: str) -> xr.DataTree:
        """Return the scene with every image that is connected in one system."""
        from ngff_xarray import world

        return world.to_system(self._obj, name)


class WellAccessor(CollectionAccessor):
    """What a well can do."""

    @property
    def fields(self) -> dict[str, xr.DataTree]:
        """Path -> field of view, each a tree of its own."""
        from ngff_xarray import groups

        return groups.fields(self._obj)


class PlateAccessor(GroupAccessor):
    """What a plate can do."""

    def view(
        self,
        *,
        field: int = 0,
        labels: Names = None,
        channels: Sequence[str] | str | None = None,
        height: int = 480,
        **position: Any,
    ) -> PlateViewer:
        """Return a viewer of all wells in one canvas; see `widgets.plates.view_plate`.

        A click on a well opens it below. ``view(channels="DAPI", z="3 µm")``.
        """
        from ngff_xarray.widgets.plates import view_plate

        return view_plate(
            self._obj, field=field, labels=labels, channels=channels, height=height, **position
        )

    @property
    def rows(self) -> tuple[str, ...]:
        """The names of the rows."""
        from ngff_xarray import groups

        return groups.plate(self._obj).rows

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        from ngff_xarray import groups

        return groups.plate(self._obj).columns

    @property
    def wells(self) -> pd.DataFrame:
        """A row a well that the plate lists, and what is known of it; see `groups.wells`."""
        from ngff_xarray import groups

        return groups.wells(self._obj)

    def to_array(
        self,
        *,
        level: object = 0,
        wells: Iterable[str] | pd.DataFrame | None = None,
        fields: int | Sequence[int] | None = None,
        labels: str | None = None,
        by: Literal["well", "row"] = "well",
        uniform: bool = True,
        missing: Literal["fill", "raise"] = "fill",
        chunks: Any = None,
        progress: bool | None = None,
    ) -> xr.DataArray:
        """Return all its fields as one lazily indexed array; see `plate_array.to_array`.

        ``to_array(level="1 µm", wells=["B/3", "B/4"], fields=0)``. Making it reads one field;
        the others are found when they are read. ``missing_fields()`` lists those that are not
        there and read as the fill value.
        """
        from ngff_xarray.plate_array import to_array

        return to_array(
            self._obj,
            level=level,
            wells=wells,
            fields=fields,
            labels=labels,
            by=by,
            uniform=uniform,
            missing=missing,
            chunks=chunks,
            progress=progress,
        )

    def missing_fields(
        self,
        *,
        wells: Iterable[str] | pd.DataFrame | None = None,
        fields: int | Sequence[int] | None = None,
        labels: str | None = None,
        progress: bool | None = None,
    ) -> pd.DataFrame:
        """Return the fields that are listed and not there; see `plate_array.missing_fields`."""
        from ngff_xarray.plate_array import missing_fields

        return missing_fields(
            self._obj, wells=wells, fields=fields, labels=labels, progress=progress
        )

    @property
    def acquisitions(self) -> list[dict[str, Any]]:
        """The acquisitions, as stored."""
        from ngff_xarray import groups

        return groups.acquisitions(self._obj)

    def well(self, path: str) -> xr.DataTree:
        """Return a well with its fields, read now if it was not yet; see `groups.well`."""
        from ngff_xarray import groups

        return groups.well(self._obj, path)


class NotOmeAccessor:
    """Stands where there is no image, and says so when it is asked for anything.

    xarray keeps the accessor of an object, which may become an image later: so it looks again.
    """

    def __init__(self, obj: Any) -> None:
        self._obj = obj

    def __getattr__(self, name: str) -> Any:
        found = ngff(self._obj)
        if not isinstance(found, NotOmeAccessor):
            return getattr(found, name)
        if name.startswith("_"):  # Python and IPython ask what an object can do
            raise AttributeError(name)
        raise NotOmeError(f".ngff.{name}: {_reason(self._obj)}")

    def __repr__(self) -> str:
        found = ngff(self._obj)
        if not isinstance(found, NotOmeAccessor):
            return repr(found)
        return f"no OME-Zarr image: {_reason(self._obj)}"


def _reason(obj: Any) -> str:
    """Return why an object is no image."""
    try:
        image.kind(obj)
    except NotOmeError as error:
        return str(error)
    return ""


_TREES: Mapping[str, type[Accessor[xr.DataTree]]] = {
    "image": TreeAccessor,
    "labels": LabelsAccessor,
    "plate": PlateAccessor,
    "well": WellAccessor,
    "collection": CollectionAccessor,
    "scene": SceneAccessor,
}


@overload
def ngff(obj: xr.DataArray) -> ImageAccessor[xr.DataArray]: ...
@overload
def ngff(obj: xr.Dataset) -> ImageAccessor[xr.Dataset]: ...
@overload
def ngff(obj: xr.DataTree) -> TreeAccessor: ...
def ngff(obj: Any) -> Any:
    """Return the accessor of an xarray object: ``obj.ngff``, known to type checkers.

    Parameters
    ----------
    obj
        A DataTree, Dataset or DataArray.

    Examples
    --------
    >>> import numpy as np
    >>> x = xr.Variable("x", [0.0, 0.5], {"units": "micrometer"})
    >>> array = xr.DataArray(np.zeros((2, 2)), dims=("y", "x"), coords={"x": x})
    >>> ngff(array).units
    {'y': None, 'x': 'micrometer'}
    """
    if not isinstance(obj, xr.DataArray | xr.Dataset | xr.DataTree):
        raise TypeError(f"expected a DataTree, Dataset or DataArray, found {type(obj).__name__}")
    try:
        kind = image.kind(obj)
    except NotOmeError:
        return NotOmeAccessor(obj)
    return _TREES[kind](obj) if isinstance(obj, xr.DataTree) else ImageAccessor(obj)


def register() -> None:
    """Put ``.ngff`` on DataTree, Dataset and DataArray (xarray leaves these calls untyped)."""
    xr.register_datatree_accessor("ngff")(ngff)  # type: ignore[no-untyped-call]
    xr.register_dataset_accessor("ngff")(ngff)  # type: ignore[no-untyped-call]
    xr.register_dataarray_accessor("ngff")(ngff)  # type: ignore[no-untyped-call]
