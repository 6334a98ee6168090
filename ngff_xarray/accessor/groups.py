"""What a collection, a scene and a well can do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import xarray as xr

from ngff_xarray.accessor.base import Accessor

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray
    from ome_types import OME
    from PIL.Image import Image

    from ngff_xarray.analyse.applying import ApplyOptions
    from ngff_xarray.analyse.measuring import Intensities
    from ngff_xarray.analyse.sweeping import Block
    from ngff_xarray.channels import Channels
    from ngff_xarray.model import CoordinateSystem
    from ngff_xarray.overlay import Labels, Names
    from ngff_xarray.render import Projection
    from ngff_xarray.widgets.groups import GroupViewer
    from ngff_xarray.widgets.viewer import Viewer


class GroupAccessor(Accessor[xr.DataTree]):
    """What a group of images can do."""

    @property
    def images(self) -> dict[str, xr.DataTree]:
        """Path -> image, each a tree of its own; those of a collection in its order.

        Examples
        --------
        >>> slides = xr.open_datatree("slides.ome.zarr")
        >>> list(slides.ngff.images)
        ['0', '1', '2']
        >>> slides.ngff.images["1"].ngff.level(0).sizes
        Frozen({'c': 2, 'y': 32, 'x': 40})
        """
        from ngff_xarray import groups

        return groups.images(self._obj)

    @property
    def ome_xml(self) -> str | None:
        """The OME-XML of a store that Bio-Formats wrote, read now; None if there is none.

        Examples
        --------
        >>> slides = xr.open_datatree("slides.ome.zarr")
        >>> "<Image" in slides.ngff.ome_xml
        True
        """
        from ngff_xarray import groups

        return groups.ome_xml(self._obj)

    @property
    def ome(self) -> OME:
        """The OME-XML as objects of ome-types, where that is installed.

        Examples
        --------
        >>> slides = xr.open_datatree("slides.ome.zarr")
        >>> [image.name for image in slides.ngff.ome.images]
        ['image 0', 'image 1', 'image 2']
        """
        from ngff_xarray import groups

        return groups.ome(self._obj)

    def apply(
        self,
        func: Callable[..., Any],
        *,
        to: Any = None,
        fields: int | Sequence[int] | None = None,
        level: object = 0,
        **options: Unpack[ApplyOptions],
    ) -> pd.DataFrame | None:
        """Apply a function to every image; see `ngff_xarray.analyse.per_image.apply_group`.

        ``apply(segment, to="labels/nuclei", stitch=True)``: labels beside each; or a table of all.

        Examples
        --------
        >>> slides = xr.open_datatree("slides.ome.zarr")
        >>> import pandas as pd
        >>> def brightest(block):
        ...     return pd.DataFrame({"brightest": [float(block.max())]})
        >>> slides.ngff.apply(brightest)
                 brightest
        image
        0     0     4000.0
        1     0     4000.0
        2     0     4000.0
        """
        from ngff_xarray.analyse.per_image import apply_group

        return apply_group(self._obj, func, to=to, fields=fields, level=level, **options)

    def measure(
        self,
        label: str,
        intensities: Intensities = None,
        *,
        fields: int | Sequence[int] | None = None,
        properties: str | Sequence[str] = (),
        level: object = 0,
        block: Block = None,
        to: Any = None,
        scheduler: Any = None,
        workers: int | None = None,
        progress: bool | None = None,
    ) -> pd.DataFrame:
        """Return the objects of all its images in one table; see `analyse.plates.measure_group`.

        ``measure("nuclei", "all", to="nuclei.parquet")``: indexed by image (or field) and label.

        Examples
        --------
        >>> well = xr.open_datatree("screen.ome.zarr").ngff.well("A/1")
        >>> well.ngff.measure("cell", ["phase"])[["area", "mean_phase"]].round(2)
                            area  mean_phase
        field label-value
        0     1            16.44      157.44
        1     1            16.44      157.44
        """
        from ngff_xarray.analyse.plates import measure_group

        return measure_group(
            self._obj,
            label,
            intensities,
            fields=fields,
            properties=properties,
            level=level,
            block=block,
            to=to,
            scheduler=scheduler,
            workers=workers,
            progress=progress,
        )

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
        """Return its images in one picture, uint8 (y, x, rgb); see `ngff_xarray.mosaic.rgb`.

        Examples
        --------
        >>> slides = xr.open_datatree("slides.ome.zarr")
        >>> slides.ngff.rgb(max_pixels=2**16).sizes
        Frozen({'y': 64, 'x': 80, 'rgb': 3})
        """
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

        Examples
        --------
        >>> plate = xr.open_datatree("screen.ome.zarr")
        >>> axes = plate.ngff.plot()
        >>> axes = plate.ngff.plot(values={"A/1": 12, "B/2": 40}, title="cells")
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
        """Return its images in one small picture; see `ngff_xarray.thumbnails.thumbnail`.

        Examples
        --------
        >>> plate = xr.open_datatree("screen.ome.zarr")
        >>> plate.ngff.thumbnail().size
        (134, 134)
        """
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
        """Return a viewer of one image, chosen by name; see `widgets.groups.view_group`.

        Examples
        --------
        >>> slides = xr.open_datatree("slides.ome.zarr")
        >>> viewer = slides.ngff.view()
        >>> viewer.close()
        """
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

        Examples
        --------
        >>> scene = xr.open_datatree("scene.ome.zarr")
        >>> viewer = scene.ngff.view()  # in the first system of the scene
        >>> list(viewer.viewport)
        ['x', 'y']
        >>> viewer.close()
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
        """Return the layers of its images in one system; see `export.napari.scene_to_napari`.

        Examples
        --------
        >>> scene = xr.open_datatree("scene.ome.zarr")
        >>> [options["name"] for _, options, _ in scene.ngff.to_napari(as_tuples=True)]
        ['b: b: 0', 'b: b: 1', 'a: a: 0', 'a: a: 1']
        """
        from ngff_xarray.export.napari import scene_to_napari

        return scene_to_napari(
            self._obj, system=system, channels=channels, labels=labels, as_tuples=as_tuples
        )

    @property
    def coordinate_systems(self) -> dict[str, CoordinateSystem]:
        """Name -> coordinate system; those of images under ``path/name``.

        Examples
        --------
        >>> scene = xr.open_datatree("scene.ome.zarr")
        >>> list(scene.ngff.coordinate_systems)
        ['b/physical', 'a/physical']
        """
        from ngff_xarray import world

        return world.coordinate_systems(self._obj)

    def transform(
        self, points: ArrayLike | Mapping[str, Any], *, from_: str, to: str
    ) -> NDArray[np.float64]:
        """Return points (n, axes) of one coordinate system in another; see `world.transform`.

        ``transform(points, from_="tile_0/physical", to="world")``.

        Examples
        --------
        >>> scene = xr.open_datatree("scene.ome.zarr")
        >>> scene.ngff.transform([[0, 1.0, 1.0]], from_="b/physical", to="a/physical")
        array([[ 0.,  1., 11.]])
        """
        from ngff_xarray import world

        return world.transform(self._obj, points, from_=from_, to=to)

    def to_system(self, name: str) -> xr.DataTree:
        """Return the scene with every image that is connected in the system ``name``.

        Examples
        --------
        >>> scene = xr.open_datatree("scene.ome.zarr")
        >>> placed = scene.ngff.to_system("a/physical")
        >>> float(placed.ngff.images["b"].ngff.level(0).x[0])
        10.0
        """
        from ngff_xarray import world

        return world.to_system(self._obj, name)


class WellAccessor(CollectionAccessor):
    """What a well can do."""

    @property
    def fields(self) -> dict[str, xr.DataTree]:
        """Path -> field of view, each a tree of its own.

        Examples
        --------
        >>> plate = xr.open_datatree("screen.ome.zarr")
        >>> list(plate.ngff.well("A/1").ngff.fields)
        ['0', '1']
        """
        from ngff_xarray import groups

        return groups.fields(self._obj)
