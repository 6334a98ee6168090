"""A plate or a well -> nodes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import xarray as xr

from ngff_xarray.errors import SelectionError
from ngff_xarray.model import Fields, Plate
from ngff_xarray.read.opening import MAX_CHILDREN, Nodes, Opened, Wells, with_below, with_extra
from ngff_xarray.spec import rules
from ngff_xarray.spec.report import shown
from ngff_xarray.store import Source


async def open_plate(opened: Opened) -> Nodes:
    """Return the nodes of a plate: all wells, those that are wanted with what is in them."""
    plate: Plate = opened.content
    wells = {well.path: well for well in plate.wells[:MAX_CHILDREN]}
    if len(plate.wells) > len(wells):
        found = f"lists {len(plate.wells)} wells; {MAX_CHILDREN} are nodes"
        opened.report.error("plate.wells", rules.PLATE_WELLS, found)
    wanted = _wanted_wells(opened.opening.wells, plate, opened.source)
    children = await opened.children(wanted, rules.WELL_MISSING, "plate.wells")
    acquisitions = plate.document.get("acquisitions")
    if isinstance(acquisitions, list) and len(acquisitions) > 1:
        for path, nodes in children.items():
            _check_acquisitions(opened, path, nodes[""], acquisitions)
    for path, well in wells.items():
        said = {"row": well.row, "column": well.column}
        if path in children:
            node = children[path][""]
            node.attrs["ome"] = {**node.attrs["ome"], **said}
        else:
            node = xr.Dataset(attrs={"ome": said})
            node.encoding = {
                "source": opened.source.child(path).url,
                "ome_version": opened.version,
                "zarr_format": opened.group.zarr_format,
            }
            children[path] = {"": node}
    ordered = {path: children[path] for path in wells}
    return with_below(opened.node(with_extra({"plate": plate.document}, plate.extra)), ordered)


def _wanted_wells(wells: Wells, plate: Plate, source: Source) -> list[str]:
    known = [well.path for well in plate.wells]
    if wells is None:
        return []
    if isinstance(wells, str) and wells == "all":
        return known
    wanted = [wells] if isinstance(wells, str) else list(wells)
    unknown = [path for path in wanted if path not in known]
    if unknown:
        raise SelectionError(f"{source.url}: there is no well {unknown[0]!r}; found {shown(known)}")
    return wanted


def _check_acquisitions(
    opened: Opened, path: str, well: xr.Dataset, acquisitions: list[Any]
) -> None:
    """Note fields that name no acquisition of a plate with several."""
    known = [entry.get("id") for entry in acquisitions if isinstance(entry, dict)]
    for i, entry in enumerate(well.attrs["ome"]["well"]["images"]):
        found = entry.get("acquisition") if isinstance(entry, dict) else None
        if found not in known:
            where = f"well.images[{i}].acquisition"
            message = f"expected one of {shown(known)}, found {shown(found)}"
            opened.report.error(where, rules.FIELD_ACQUISITION, message)
            opened.report.issues.append(replace(opened.report.issues.pop(), group=path))


async def open_well(opened: Opened) -> Nodes:
    """Return the nodes of a well and its fields."""
    well: Fields = opened.content
    children = await opened.children(well.paths, rules.FIELD_MISSING, "well.images")
    return with_below(opened.node(with_extra({"well": dict(well.document)}, well.extra)), children)
