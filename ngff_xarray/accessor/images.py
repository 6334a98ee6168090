"""What an image can do: an array, one level, or a tree of levels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Unpack

import xarray as xr

from ngff_xarray import image, ops, selection
from ngff_xarray.accessor.base import Accessor, ObjT
from ngff_xarray.model import Axis, Channel
from ngff_xarray.unfinished import WAIT

if TYPE_CHECKING:
    import dask.array as da
    import numpy as np
    import pint
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray
    from PIL.Image import Image

    from ngff_xarray.analyse.applying import ApplyOptions
    from ngff_xarray.analyse.patch_sequence import Patches
    from ngff_xarray.animation import Animation
    from ngff_xarray.channels import Channels
    from ngff_xarray.model import CoordinateSystem
    from ngff_xarray.overlay import Labels, Names
    from ngff_xarray.pyramid import Method
    from ngff_xarray.render import Projection
    from ngff_xarray.widgets.viewer import Viewer


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

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> dark = tree.ngff.level(0).sel(x=slice(20, 30)) * 0
        >>> dark.ngff.write_region("cell.ome.zarr")
        >>> int(tree.ngff.level(2).sel(x=slice(21, 29)).max())
        0
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

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> frame = tree.ngff.level(2).expand_dims("t")
        >>> frame.ngff.to_zarr("film.ome.zarr")
        >>> frame.ngff.append("film.ome.zarr")
        >>> xr.open_datatree("film.ome.zarr").ngff.level(0).sizes["t"]
        2
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

        Examples
        --------
        >>> import numpy as np
        >>> image = xr.DataArray(np.zeros((2, 512, 512)), dims=("z", "y", "x"))
        >>> [level.shape for level in image.ngff.pyramid(levels=3).ngff.levels]
        [(2, 512, 512), (1, 256, 256), (1, 128, 128)]
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
    def provenance(self) -> dict[str, Any]:
        """What made it: ``function``, ``parameters``, ``settings``, ``versions``, ``date``.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> def bright(block):
        ...     return block.values > 100
        >>> tree = tree.ngff.apply(bright, to="labels/bright")
        >>> sorted(tree.ngff.labels["bright"].ngff.provenance)
        ['call', 'date', 'function', 'parameters', 'settings', 'versions']
        """
        return image.provenance(self._obj)

    def apply(
        self,
        func: Callable[..., Any],
        *,
        to: Any = None,
        level: object = 0,
        preview: Mapping[str, Any] | None = None,
        **options: Unpack[ApplyOptions],
    ) -> Any:
        """Return or write what a function makes of it, a block at a time.

        ``tree.ngff.apply(segment, level="0.5 µm", halo="8 µm", to="labels/nuclei", stitch=True)``;
        see `ngff_xarray.analyse.applying.apply`. ``preview={"x": slice("40 µm", "90 µm")}`` tries
        it on a region and shows the result in a viewer.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> from scipy import ndimage
        >>> def segment(block):  # any function of a DataArray in memory
        ...     return ndimage.label(block.values[0] > 100)[0]
        >>> tree = tree.ngff.apply(segment, halo="1 µm", to="labels/found", stitch=True)
        >>> list(tree.ngff.labels)
        ['cell', 'found']
        """
        if preview is not None:
            from ngff_xarray.widgets.preview import preview as shown

            return shown(self._obj, func, preview, to=to, level=level, **options)
        from ngff_xarray.analyse.applying import apply

        return apply(self._obj, func, to=to, level=level, **options)

    def patches(
        self,
        size: Any,
        *,
        overlap: Any = None,
        level: object = 0,
        where: Any = None,
        share: float = 0.0,
        channels: str | Sequence[str] | None = None,
        labels: str | Sequence[str] | None = None,
        pad: Literal["reflect", "constant"] | None = None,
        shuffle: int | None = None,
        prefetch: int | None = None,
        memory: int | str = "256 MB",
    ) -> Patches:
        """Return its patches, to train or predict with; see `ngff_xarray.analyse.patches.patches`.

        ``patches("20 µm", overlap=0.25, where=mask, labels="nuclei", shuffle=0)``: a sequence,
        which a PyTorch DataLoader takes as it is. `ngff_xarray.stitch_patches` is the way back.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> patches = tree.ngff.patches("20 µm", overlap=0.25, where="cell", labels="cell")
        >>> patches[0]["image"].shape
        (1, 187, 187)
        """
        from ngff_xarray.analyse.patches import patches

        return patches(
            self._obj,
            size,
            overlap=overlap,
            level=level,
            where=where,
            share=share,
            channels=channels,
            labels=labels,
            pad=pad,
            shuffle=shuffle,
            prefetch=prefetch,
            memory=memory,
        )

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes: name, type and unit, in the order of the dimensions.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> [(axis.name, axis.type, axis.unit) for axis in tree.ngff.axes]
        [('c', 'channel', None), ('y', 'space', 'micrometer'), ('x', 'space', 'micrometer')]
        """
        return image.axes(self._obj)

    @property
    def units(self) -> dict[str, str | None]:
        """Axis name -> unit: the specification's name, or the store's text where it has none.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.units
        {'y': 'micrometer', 'x': 'micrometer'}
        """
        return image.unit_texts(self._obj)

    @property
    def pixel_size(self) -> dict[str, pint.Quantity[float]]:
        """Axis name -> distance of neighbouring pixels, as a pint quantity.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> print(tree.ngff.pixel_size["x"])
        0.107 micrometer
        """
        return image.pixel_quantities(self._obj)

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels still there: name, colour and window as stored.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> (channel,) = tree.ngff.channels
        >>> channel.name, channel.color, channel.window
        ('phase', (255, 255, 255), Window(start=0.0, end=255.0))
        """
        return image.channels(self._obj)

    @property
    def levels(self) -> tuple[xr.DataArray, ...]:
        """The array of every level, finest first.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> [level.shape for level in tree.ngff.levels]
        [(1, 660, 550), (1, 330, 275), (1, 165, 138), (1, 83, 69)]
        """
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

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.level(pixel_size="0.5 µm").shape
        (1, 165, 138)
        >>> tree.ngff.level(nbytes="100 kB").shape
        (1, 330, 275)
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

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> part = tree.ngff.sel(x=slice("35 µm", "55 µm"), y="40 µm", c="phase")
        >>> [level.sizes["x"] for level in part.ngff.levels]
        [188, 95, 48, 25]
        >>> tree.ngff.sel(x=slice("35 µm", "55 µm"), level="0.5 µm").sizes
        Frozen({'c': 1, 'y': 165, 'x': 48})
        """
        return selection.sel(self._obj, {**(indexers or {}), **at}, which=level)

    def crop(self, regions: Mapping[str, slice] | None = None, **region: slice) -> ObjT:
        """Return a region with all its axes, in physical units; see `ngff_xarray.selection.crop`.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.crop(x=slice("35 µm", "55 µm"))["1/image"].sizes
        Frozen({'c': 1, 'y': 330, 'x': 95})
        """
        return selection.crop(self._obj, {**(regions or {}), **region})

    @property
    def coordinate_systems(self) -> dict[str, CoordinateSystem]:
        """Name -> coordinate system that points and pixels can be transformed to.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> list(tree.ngff.coordinate_systems)
        ['intrinsic']
        """
        from ngff_xarray import world

        return world.coordinate_systems(self._obj)

    def transform(
        self, points: ArrayLike | Mapping[str, Any], *, from_: str | None = None, to: str
    ) -> NDArray[np.float64]:
        """Return points (n, axes) of one coordinate system in another; see `world.transform`.

        ``transform([[10.0, 20.0]], to="registered")``; ``from_`` is the system of the
        coordinates, and may be the path of a level, whose points are pixel indices.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.transform([[0, 100, 100]], from_="1", to="intrinsic")  # pixels of level 1
        array([[ 0.    , 21.4535, 21.4535]])
        """
        from ngff_xarray import world

        return world.transform(self._obj, points, from_=from_, to=to)

    def to_system(self, name: str) -> ObjT:
        """Return it with coordinates in another system; see `ngff_xarray.world.to_system`.

        No pixel is moved. Where the system rotates or shears the image, its coordinates have two
        or three dimensions: ``.plot(x="x", y="y")`` of an array draws it in place.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.to_system("intrinsic").ngff.level(1).x.values[:2]
        array([0.0535, 0.2675])
        """
        from ngff_xarray import world

        return world.to_system(self._obj, name)

    def with_system(
        self,
        name: str,
        transformation: ArrayLike | Mapping[str, Any] | None = None,
        *,
        axes: str | Sequence[str] | None = None,
    ) -> ObjT:
        """Return it with one more coordinate system; see `ngff_xarray.world.with_system`.

        ``with_system("atlas", matrix, axes="xy")``, ``with_system("stage", {"x": "20 µm"})``: no
        pixel is moved, and ``to_zarr(…, version="0.6")`` writes it.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> placed = tree.ngff.with_system("stage", {"y": "5 µm", "x": "20 µm"})
        >>> float(placed.ngff.to_system("stage").ngff.level(0)["x"][0])
        20.0
        """
        from ngff_xarray import world

        return world.with_system(self._obj, name, transformation, axes=axes)

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

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.resample("1 µm").sizes
        Frozen({'c': 1, 'y': 71, 'x': 59})
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

    def with_pixel_size(self, sizes: Mapping[str, Any] | None = None, **along: Any) -> ObjT:
        """Return it with pixels of another size; see `ngff_xarray.pixel_sizes.with_pixel_size`.

        ``tree.ngff.with_pixel_size(y="0.5 µm", x="0.5 µm")``: for stores that do not say it, or
        say it wrongly. All levels and label images follow; nothing is written.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree = tree.ngff.with_pixel_size(y="0.2 µm", x="0.2 µm")
        >>> print(tree.ngff.level(1).ngff.pixel_size["x"])
        0.4 micrometer
        """
        from ngff_xarray.pixel_sizes import with_pixel_size

        return with_pixel_size(self._obj, {**(sizes or {}), **along})

    def quantify(self) -> ObjT:
        """Return it with pint quantities as coordinates; see `ngff_xarray.ops.quantify`.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> str(tree.ngff.level(0).ngff.quantify()["x"].pint.units)
        'micrometer'
        """
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

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.rgb(channels={"phase": "magma"}, labels="cell", max_pixels=2**16).sizes
        Frozen({'y': 165, 'x': 138, 'rgb': 3})
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

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> axes = tree.ngff.plot(channels={"phase": "magma"}, labels="cell", outline=True)
        >>> axes.get_xlabel()
        'x [µm]'
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

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> viewer = tree.ngff.view(labels="cell")  # the last line of a cell shows it
        >>> viewer.viewport = {"x": ("35 µm", "55 µm"), "y": ("30 µm", "50 µm")}
        >>> viewer.screenshot("seen.png").shape
        (480, 720, 3)
        >>> viewer.close()
        """
        from ngff_xarray.widgets.viewer import view

        return view(self._obj, labels=labels, channels=channels, height=height, **position)

    def to_napari(
        self, *, channels: Channels = None, labels: Names = True, as_tuples: bool = False
    ) -> Any:
        """Return its layers for napari, lazily indexed; see `ngff_xarray.export.napari.to_napari`.

        ``viewer.layers.extend(tree.ngff.to_napari())``; ``as_tuples=True`` gives those of readers.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> data, options, kind = tree.ngff.to_napari(as_tuples=True)[0]
        >>> kind, len(data), options["scale"]
        ('image', 4, (0.107, 0.107))
        """
        from ngff_xarray.export.napari import to_napari

        return to_napari(self._obj, channels=channels, labels=labels, as_tuples=as_tuples)

    def to_dask(self, level: object = 0, *, by: Literal["shards", "chunks"] = "shards") -> da.Array:
        """Return a level as a dask array, a block a shard or chunk; see `export.dask.to_dask`.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.to_dask(level=1, by="chunks").chunksize
        (1, 256, 256)
        """
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

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.to_itk("0.5 µm", library="SimpleITK", unit="millimeter").GetSpacing()
        (0.000428, 0.000428)
        """
        from ngff_xarray.export.itk import to_itk

        return to_itk(self._obj, level, library=library, unit=unit)

    def to_omero(
        self, path: str | PathLike[str] | None = None, *, lossy: bool = False
    ) -> dict[str, Any]:
        """Return how it is drawn, as ``omero render set`` takes it; see `ngff_xarray.export.omero`.

        ``to_omero("settings.json")`` writes the file, too.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.to_omero()["channels"][1]["label"]
        'phase'
        """
        from ngff_xarray.export.omero import to_omero

        return to_omero(self._obj, path, lossy=lossy)

    def with_rendering(self, settings: Any) -> ObjT:
        """Return it drawn as OMERO draws an image; see `ngff_xarray.export.omero.with_rendering`.

        ``with_rendering(conn.getObject("Image", 1))``, or a file of ``omero render``.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> settings = {"version": 2, "channels": {1: {"label": "phase", "color": "00FF00"}}}
        >>> tree.ngff.with_rendering(settings).ngff.channels[0].color
        (0, 255, 0)
        """
        from ngff_xarray.export.omero import with_rendering

        return with_rendering(self._obj, settings)

    def thumbnail(self, size: int = 144) -> Image:
        """Return a small picture of the coarsest level; see `ngff_xarray.thumbnails.thumbnail`.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.thumbnail().size
        (69, 83)
        """
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

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.animate("c", "film.gif", labels="cell")
        <Animation of 1 frames, 330 × 275, 8 a second>
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
