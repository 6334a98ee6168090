"""SpatialData: the elements that each store becomes, and what it reads of what it wrote of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import spatialdata
import xarray as xr
from spatialdata.transformations import get_transformation

Json = dict[str, Any]


def levels(element: Any) -> list[xr.DataArray]:
    if isinstance(element, xr.DataArray):
        return [element]
    return [element[name]["image"] for name in element.children]


def describe(element: Any) -> Json:
    """Its pixels, and where the first and last pixel of each level have their centres."""
    told = []
    for array in levels(element):
        dims = [str(dim) for dim in array.dims if dim != "c"]
        matrix = get_transformation(array, "global").to_affine_matrix(dims, dims)
        ends = [np.full(len(dims), 0.5), np.array([array.sizes[dim] for dim in dims]) - 0.5]
        told.append(
            {
                "shape": list(array.shape),
                "sum": int(np.asarray(array.data, "u8").sum()),
                "ends": [(matrix @ [*end, 1])[:-1].tolist() for end in ends],
                "chunks": [list(each) for each in array.data.chunks],
            }
        )
    first = levels(element)[0]
    return {"levels": told, "c": first["c"].values.tolist() if "c" in first.dims else None}


def read(path: Path) -> Json:
    tree = xr.open_datatree(path)
    if "t" in tree.ngff.levels[0].dims:
        tree = tree.ngff.sel(t=0)
    made = tree.ngff.to_spatialdata()
    again = path.with_name(f"{path.stem}.spatialdata.zarr")
    made.write(again)
    found = {}
    for data in (made, spatialdata.read_zarr(again)):
        elements = {**data.images, **data.labels}
        tables = {
            name: dict(
                zip(map(int, table.obs["instance_id"]), table.obs["area"].tolist(), strict=True)
            )
            for name, table in data.tables.items()
        }
        regions = {name: list(table.obs["region"].unique()) for name, table in data.tables.items()}
        said = {name: describe(element) for name, element in elements.items()}
        found["made" if data is made else "again"] = {
            "elements": said,
            "tables": tables,
            "regions": regions,
        }
    return found


print(json.dumps({Path(path).name: read(Path(path)) for path in sys.argv[1:]}))
