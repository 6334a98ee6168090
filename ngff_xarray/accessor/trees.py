"""What an image with its levels can do besides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

from ngff_xarray import image, ops
from ngff_xarray.accessor.images import ImageAccessor
from ngff_xarray.unfinished import WAIT

if TYPE_CHECKING:
    import pandas as pd
    from spatialdata import SpatialData
    from tensorstore import TensorStore

    from ngff_xarray.analyse.comparing import Comparison
    from ngff_xarray.analyse.measuring import Intensities, Label
    from ngff_xarray.analyse.sweeping import Block
    from ngff_xarray.channels import Channels
    from ngff_xarray.export.neuroglancer import Neuroglancer
    from ngff_xarray.image import LabelImages
    from ngff_xarray.layout import Compressor, Sizes
    from ngff_xarray.model import RGBA
    from ngff_xarray.overlay import Names
    from ngff_xarray.pyramid import Method


class TreeAccessor(ImageAccessor[xr.DataTree]):
    """What a tree of levels can do besides."""

    @property
    def labels(self) -> LabelImages:
        """Path -> label image, each a tree of its own; ``.labels.table()`` says what made each.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> list(tree.ngff.labels)
        ['cell']
        >>> tree.ngff.labels["cell"].ngff.level(0).dtype
        dtype('<u2')
        """
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

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> bright = tree.ngff.level(0) > 100
        >>> tree = tree.ngff.add_labels("bright", bright, colors={1: "orange"})
        >>> tree.ngff.labels["bright"].ngff.colors
        {1: (255, 165, 0, 255)}
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
        """Delete a label image; see `ngff_xarray.labelling.remove_labels`.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> list(tree.ngff.remove_labels("cell").ngff.labels)
        []
        """
        from ngff_xarray.labelling import remove_labels

        return remove_labels(
            self._obj, name, wait=wait, target=target, storage_options=storage_options
        )

    def measure(
        self,
        label: Label,
        intensities: Intensities = None,
        *,
        properties: str | Sequence[str] = (),
        level: object = 0,
        block: Block = None,
        to: Any = None,
        scheduler: Any = None,
        workers: int | None = None,
        progress: bool | None = None,
    ) -> pd.DataFrame:
        """Return size, place and intensities of every object; see `analyse.measuring.measure`.

        ``measure("nuclei", ["DAPI", "GFP"], properties=["solidity"], to="properties")``: a row a
        label, in the image's units; of objects that lie in several blocks as well.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> table = tree.ngff.measure("cell", ["phase"], properties=["solidity"])
        >>> table.loc[1, ["area", "mean_phase", "solidity"]].round(2).to_dict()
        {'area': 133.0, 'mean_phase': 180.5, 'solidity': 0.99}
        >>> table.attrs["units"]["area"]
        'micrometer²'
        """
        from ngff_xarray.analyse.measuring import measure

        return measure(
            self._obj,
            label,
            intensities,
            properties=properties,
            level=level,
            block=block,
            to=to,
            scheduler=scheduler,
            workers=workers,
            progress=progress,
        )

    def compare(
        self,
        a: Label,
        b: Label,
        *,
        thresholds: float | Sequence[float] | None = None,
        level: object = 0,
        block: Block = None,
        scheduler: Any = None,
        workers: int | None = None,
        progress: bool | None = None,
    ) -> Comparison:
        """Return how well the objects of two label images agree; see `ngff_xarray.compare`.

        ``compare("nuclei", "nuclei_v2").scores``: precision, recall and more at IoUs from 0.5 on.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.compare("cell", tree.ngff.level(0)[0] > 100).scores["f1"][0.5]
        np.float64(1.0)
        """
        from ngff_xarray.analyse.comparing import compare

        return compare(
            a,
            b,
            thresholds=thresholds,
            tree=self._obj,
            level=level,
            block=block,
            scheduler=scheduler,
            workers=workers,
            progress=progress,
        )

    def to_neuroglancer(
        self, *, channels: Channels = None, labels: Names = True, serve: bool | None = None
    ) -> Neuroglancer:
        """Return it for Neuroglancer; see `ngff_xarray.export.neuroglancer.to_neuroglancer`.

        ``to_neuroglancer().show()`` in the browser of this machine; ``.link()`` for a public one.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> with tree.ngff.to_neuroglancer() as shown:
        ...     [layer["type"] for layer in shown.state["layers"]]
        ['image', 'segmentation']
        """
        from ngff_xarray.export.neuroglancer import to_neuroglancer

        return to_neuroglancer(self._obj, channels=channels, labels=labels, serve=serve)

    def tensorstore_spec(self, level: object = 0) -> dict[str, Any]:
        """Return by what TensorStore opens a level; see `export.tensorstore.tensorstore_spec`.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.tensorstore_spec(level=1)["driver"]
        'zarr3'
        """
        from ngff_xarray.export.tensorstore import tensorstore_spec

        return tensorstore_spec(self._obj, level)

    def to_tensorstore(self, level: object = 0) -> TensorStore:
        """Return a level opened by TensorStore; see `ngff_xarray.export.tensorstore`.

        ``tree.ngff.to_tensorstore("1 µm")[0, :512, :512].read().result()``.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.to_tensorstore("0.5 µm")[0, :64, :64].read().result().shape
        (64, 64)
        """
        from ngff_xarray.export.tensorstore import to_tensorstore

        return to_tensorstore(self._obj, level)

    def to_spatialdata(
        self, *, name: str | None = None, system: str = "global", unit: str | None = None
    ) -> SpatialData:
        """Return it with its labels and their tables; see `ngff_xarray.export.spatialdata`.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.to_spatialdata().labels["cell"]["scale0"]["image"].shape  # doctest: +SKIP
        (660, 550)
        """
        from ngff_xarray.export.spatialdata import to_spatialdata

        return to_spatialdata(self._obj, name=name, system=system, unit=unit)

    @property
    def multiscales(self) -> tuple[xr.DataTree, ...]:
        """All images of a group that holds several, this one first, each a tree of its own.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> [image.ngff.name for image in tree.ngff.multiscales]
        ['cell']
        """
        from ngff_xarray import groups

        return groups.multiscales(self._obj)

    def map(self, func: Callable[..., xr.DataArray], **kwargs: Any) -> xr.DataTree:
        """Return the tree with ``func`` applied to the array of every level; labels stay.

        See `ngff_xarray.ops.map_levels`.

        Examples
        --------
        >>> tree = xr.open_datatree("cell.ome.zarr")
        >>> tree.ngff.map(lambda image: 255 - image).ngff.level(2).shape
        (1, 165, 138)
        """
        return ops.map_levels(self._obj, func, **kwargs)


class LabelsAccessor(TreeAccessor):
    """What a label image can do besides."""

    @property
    def colors(self) -> dict[int, RGBA]:
        """Label value -> stored colour: red, green, blue and alpha, 0 to 255.

        Examples
        --------
        >>> cell = xr.open_datatree("cell.ome.zarr").ngff.labels["cell"]
        >>> cell.ngff.colors
        {1: (255, 176, 0, 255)}
        """
        return image.label_colors(self._obj)

    @property
    def properties(self) -> pd.DataFrame:
        """The stored properties: a row a label value, which is the index.

        Examples
        --------
        >>> cell = xr.open_datatree("cell.ome.zarr").ngff.labels["cell"]
        >>> cell.ngff.properties
                        area
        label-value
        1            133.003
        """
        return image.label_properties(self._obj)
