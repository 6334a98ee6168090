"""A group of any kind -> nodes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from ngff_xarray import spec, unfinished
from ngff_xarray.read.images import open_image_nodes
from ngff_xarray.read.linked import open_linked, open_linked_image
from ngff_xarray.read.opening import Nodes, Opened, Opening, image_number, inherited
from ngff_xarray.read.plates import open_plate, open_well
from ngff_xarray.read.series import (
    open_collection,
    open_labels_group,
    open_listing,
    open_scene,
)
from ngff_xarray.read.spatialdata import open_spatialdata
from ngff_xarray.spec import rules, spatialdata
from ngff_xarray.spec.report import Report
from ngff_xarray.store import Group, Source


async def open_nodes(
    source: Source,
    group: Group,
    opening: Opening,
    *,
    kind: str | None = None,
    report: Report | None = None,
) -> Nodes:
    """Return the Dataset of every node of a group, by its path below it.

    Parameters
    ----------
    source, group
        Where it is, and what its metadata say.
    opening
        What of it is wanted.
    kind
        What the group is, where that is known.
    report
        Takes what is wrong or odd in the group itself.

    Raises
    ------
    NgffError
        If the group cannot be read.
    """
    unfinished.check_read(source.url, group.attributes)
    report = report or Report(source.url)
    report.issues += source.oddities
    if kind is None and spatialdata.is_store(group.attributes):
        return await open_spatialdata(source, group, opening, report, open_nodes)
    number = image_number(group, opening.multiscale, source)
    version, kind, content, others = spec.read(
        group.attributes,
        report,
        kind=kind,
        version=inherited(group, opening.version),
        number=number,
    )
    others = unfinished.without(others)
    opened = Opened(source, group, version, content, others, opening, report, open_nodes)
    expected = spec.VERSIONS[version].ZARR_FORMAT
    if group.zarr_format != expected:
        found = f"{version} is for Zarr v{expected}, found in Zarr v{group.zarr_format}"
        report.error("version", rules.ZARR_FORMAT, found)
    return await _OPENERS[kind](opened)


_OPENERS: Mapping[str, Callable[[Opened], Awaitable[Nodes]]] = {
    "image": open_image_nodes,
    "plate": open_plate,
    "well": open_well,
    "collection": open_collection,
    "series": open_listing,
    "labels group": open_labels_group,
    "scene": open_scene,
    "linked collection": open_linked,
    "linked image": open_linked_image,
}
