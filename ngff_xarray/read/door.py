"""A store -> a DataTree: images and their labels, plates, wells, collections and scenes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import xarray as xr

from ngff_xarray.progress import progress
from ngff_xarray.read.fields import FieldPlace, find_field
from ngff_xarray.read.nodes import open_nodes
from ngff_xarray.read.opening import Nodes, Opening, Wells
from ngff_xarray.storage import Access
from ngff_xarray.store import Group, Source, fetch_child_group, open_group, run


def open_tree(
    source: Any,
    *,
    group: str | None = None,
    access: Access | None = None,
    drop_variables: str | Iterable[str] | None = None,
    labels: bool = True,
    wells: Wells = None,
    multiscale: int | str = 0,
) -> xr.DataTree:
    """Return an OME-Zarr image, plate, well, collection or scene as a tree; no pixel is read.

    Parameters
    ----------
    source
        A path, a URL, a zarr group or store, or references.
    group
        The group to open, where it is not the root: a series (``"0"``), a well (``"B/3"``).
    access
        How to read the store.
    drop_variables
        Names of variables to leave out of every node.
    labels
        Whether to open the label images too.
    wells
        The wells of a plate to open to their pixels, or ``"all"``. By default a plate opens to
        its wells and no further, which takes one request.
    multiscale
        Which image to open where a group holds several: its number or its name.

    Returns
    -------
    xarray.DataTree
        A node a group, at the paths that the store uses. Each level of an image is a node with
        the lazily indexed variable ``image`` (``labels`` in a label image).

    Raises
    ------
    StoreNotFoundError
        If nothing is there.
    NgffError
        If it is no OME-Zarr, or one that cannot be read.

    Notes
    -----
    Collections that list their images by path, in a group or in a file ``….json``, are read as
    version 1 of RFC-8, of August 2026, proposes them, and images that are described so, too. Nodes
    are called by their names; what the collection says of an image is its attribute ``node``. Paths
    that lead out of the store, to other hosts or to files are followed with ``trust=True`` only,
    and credentials stay with the host that they are for. What is not opened is kept and an issue:
    nodes of other types, and what cannot be read. The systems of its scenes are kept and not
    applied; its plates open as collections.
    """
    access = access or Access()
    place, found = open_group(source, group=group, access=access)
    with progress("opening", "groups", access.progress) as bar:
        opening = Opening(labels=labels, wells=wells, multiscale=multiscale, bar=bar, access=access)
        return tree_of(run(open_nodes(place, found, opening), bar), drop_variables)


def tree_of(nodes: Nodes, drop_variables: str | Iterable[str] | None = None) -> xr.DataTree:
    """Return the tree of Datasets by path."""
    dropped = {drop_variables} if isinstance(drop_variables, str) else set(drop_variables or ())
    if dropped:
        nodes = {path: node.drop_vars(dropped, errors="ignore") for path, node in nodes.items()}
    return xr.DataTree.from_dict({path or "/": node for path, node in nodes.items()})


def open_below(source: Source, group: Group, path: str) -> xr.DataTree | None:
    """Return the tree of a group below another one, or None if there is none."""

    async def nodes() -> Nodes | None:
        below = await fetch_child_group(source, group, path)
        if below is None:
            return None
        return await open_nodes(source.child(path), below, Opening(indexed=True, bar=bar))

    with progress("opening", "groups") as bar:
        found = run(nodes(), bar)
    return None if found is None else tree_of(found)


def open_field(
    source: Source, group: Group, path: str, number: int, *, labels: bool, version: str | None
) -> xr.DataTree | None:
    """Return one field of a well below a plate, or None if there is no such well.

    Nothing else of the well is read. ``version`` is that of the plate.
    """

    async def nodes() -> Nodes | None:
        at = await find_field(source, group, path, number, version=version)
        return None if at is None else await at.nodes(await at.fetch(), labels=labels)

    found = run(nodes())
    return None if found is None else tree_of(found)


def open_image(
    source: Source, group: Group, *, version: str | None, labels: bool = False
) -> xr.DataTree:
    """Return the tree of an image of whose group it is known what it says."""
    opening = Opening(labels=labels, indexed=True, version=version)
    return tree_of(run(open_nodes(source, group, opening)))


def open_place(place: FieldPlace, *, labels: bool) -> xr.DataTree:
    """Return the tree of a field that was found."""

    async def nodes() -> Nodes:
        return await place.nodes(await place.fetch(), labels=labels)

    return tree_of(run(nodes()))
