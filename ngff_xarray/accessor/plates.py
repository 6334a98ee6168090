"""What a plate can do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack

import xarray as xr

from ngff_xarray.accessor.groups import GroupAccessor

if TYPE_CHECKING:
    import pandas as pd

    from ngff_xarray.analyse.applying import ApplyOptions
    from ngff_xarray.analyse.measuring import Intensities
    from ngff_xarray.analyse.sweeping import Block
    from ngff_xarray.overlay import Names
    from ngff_xarray.widgets.plates import PlateViewer


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

        Examples
        --------
        >>> plate = xr.open_datatree("screen.ome.zarr")
        >>> viewer = plate.ngff.view(channels="phase")
        >>> viewer.well = "B/2"  # as a click does
        >>> viewer.close()
        """
        from ngff_xarray.widgets.plates import view_plate

        return view_plate(
            self._obj, field=field, labels=labels, channels=channels, height=height, **position
        )

    def apply(
        self,
        func: Callable[..., Any],
        *,
        to: Any = None,
        per: Literal["field", "well"] = "field",
        wells: Iterable[str] | pd.DataFrame | None = None,
        fields: int | Sequence[int] | None = None,
        level: object = 0,
        **options: Unpack[ApplyOptions],
    ) -> pd.DataFrame | None:
        """Apply a function to every field, or well; see `analyse.per_image.apply_group`.

        ``plate.ngff.apply(segment, to="labels/nuclei", stitch=True, wells=["B/3"])``.

        Examples
        --------
        >>> plate = xr.open_datatree("screen.ome.zarr")
        >>> def segment(block):
        ...     return (block.values[0] > 100).astype("uint8")
        >>> plate.ngff.apply(segment, to="labels/bright")
        >>> list(plate.ngff.well("B/2").ngff.fields["0"].ngff.labels)
        ['cell', 'bright']
        """
        from ngff_xarray.analyse.per_image import apply_group

        return apply_group(
            self._obj,
            func,
            to=to,
            per=per,
            wells=wells,
            fields=fields,
            level=level,
            **options,
        )

    def measure(
        self,
        label: str,
        intensities: Intensities = None,
        *,
        by: Literal["well", "field"] = "well",
        wells: Iterable[str] | pd.DataFrame | None = None,
        fields: int | Sequence[int] | None = None,
        properties: str | Sequence[str] = (),
        level: object = 0,
        block: Block = None,
        to: Any = None,
        scheduler: Any = None,
        workers: int | None = None,
        progress: bool | None = None,
    ) -> pd.DataFrame:
        """Return the objects of all its fields in one table; see `analyse.plates.measure_group`.

        ``measure("nuclei", ["DAPI"], wells=["B/3", "B/4"])``: indexed by well, field and label.

        Examples
        --------
        >>> plate = xr.open_datatree("screen.ome.zarr")
        >>> plate.ngff.measure("cell", ["phase"])[["area", "mean_phase"]].round(2)
                                 area  mean_phase
        well field label-value
        A/1  0     1            16.44      157.44
             1     1            16.44      157.44
        B/2  0     1            16.44      157.44
        """
        from ngff_xarray.analyse.plates import measure_group

        return measure_group(
            self._obj,
            label,
            intensities,
            by=by,
            wells=wells,
            fields=fields,
            properties=properties,
            level=level,
            block=block,
            to=to,
            scheduler=scheduler,
            workers=workers,
            progress=progress,
        )

    @property
    def rows(self) -> tuple[str, ...]:
        """The names of the rows.

        Examples
        --------
        >>> plate = xr.open_datatree("screen.ome.zarr")
        >>> plate.ngff.rows
        ('A', 'B')
        """
        from ngff_xarray import groups

        return groups.plate(self._obj).rows

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns.

        Examples
        --------
        >>> plate = xr.open_datatree("screen.ome.zarr")
        >>> plate.ngff.columns
        ('1', '2')
        """
        from ngff_xarray import groups

        return groups.plate(self._obj).columns

    @property
    def wells(self) -> pd.DataFrame:
        """A row a well that the plate lists, and what is known of it; see `groups.wells`.

        Examples
        --------
        >>> plate = xr.open_datatree("screen.ome.zarr")
        >>> plate.ngff.wells[["row", "column", "path"]]
             row column path
        well
        A/1    A      1  A/1
        B/2    B      2  B/2
        """
        from ngff_xarray import groups

        return groups.wells(self._obj)

    def join(self, table: Any, *, unmatched: Literal["raise", "drop"] = "raise") -> xr.DataTree:
        """Return it with a table's columns, a row a well; see `ngff_xarray.well_tables.join`.

        ``plate = plate.ngff.join("layout.csv")``: then they are in ``.wells``, and coordinates of
        ``.to_array()``.

        Examples
        --------
        >>> plate = xr.open_datatree("screen.ome.zarr")
        >>> plate = plate.ngff.join("layout.csv")
        >>> plate.ngff.wells["dose"].to_dict()
        {'A/1': 0, 'B/2': 10}
        """
        from ngff_xarray.well_tables import join

        return join(self._obj, table, unmatched=unmatched)

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

        Examples
        --------
        >>> plate = xr.open_datatree("screen.ome.zarr")
        >>> array = plate.ngff.to_array(level=1, fields=0)
        >>> dict(array.sizes)
        {'well': 2, 'c': 1, 'y': 34, 'x': 34}
        >>> array.sel(well="B/2", c="phase").shape
        (34, 34)
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
        """Return the fields that are listed and not there; see `plate_array.missing_fields`.

        Examples
        --------
        >>> plate = xr.open_datatree("screen.ome.zarr")
        >>> plate.ngff.missing_fields()  # B2 has one field, and A1 has two
          well  field                reason
        0  B/2      1  the well has 1 field
        """
        from ngff_xarray.plate_array import missing_fields

        return missing_fields(
            self._obj, wells=wells, fields=fields, labels=labels, progress=progress
        )

    @property
    def acquisitions(self) -> list[dict[str, Any]]:
        """The acquisitions, as stored.

        Examples
        --------
        >>> plate = xr.open_datatree("screen.ome.zarr")
        >>> plate.ngff.acquisitions
        []
        """
        from ngff_xarray import groups

        return groups.acquisitions(self._obj)

    def well(self, path: str) -> xr.DataTree:
        """Return a well with its fields, read now if it was not yet; see `groups.well`.

        Examples
        --------
        >>> plate = xr.open_datatree("screen.ome.zarr")
        >>> well = plate.ngff.well("A1")  # or "A/1", "A01"
        >>> list(well.ngff.images)
        ['0', '1']
        """
        from ngff_xarray import groups

        return groups.well(self._obj, path)
