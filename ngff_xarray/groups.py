"""What plates, wells, collections and scenes hold: images below them, and their OME-XML."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

import xarray as xr

from ngff_xarray import geometry, image, spec, well_tables
from ngff_xarray.describe import ome_attrs
from ngff_xarray.errors import (
    Issue,
    MetadataError,
    MissingDependencyError,
    NgffError,
    NotOmeError,
    SelectionError,
    StoreError,
)
from ngff_xarray.model import Image, Plate
from ngff_xarray.spec import hcs
from ngff_xarray.spec.collections import read_series
from ngff_xarray.spec.report import Report, shown

if TYPE_CHECKING:
    import pandas as pd
    from ome_types import OME

    from ngff_xarray.image import Obj
    from ngff_xarray.store import Group, Source

MAX_XML_BYTES = 2**26
MAX_XML_DEPTH = 100


def images(tree: xr.DataTree) -> dict[str, xr.DataTree]:
    """Return the images next below a node, by path, each a tree of its own.

    Those of a collection come in its order: that of ``OME/series``, else by number.
    """
    found: dict[str, xr.DataTree] = {}
    for node in tree.descendants:
        said = node.attrs.get("ome")
        path = node.path.removeprefix(tree.path.rstrip("/") + "/")
        inside = any(path.startswith(f"{known}/") for known in found)
        if isinstance(said, dict) and not inside and _is_image(node):
            found[path] = node
    order = _series(tree)
    listed = [path for path in order if path in found]
    ordered = listed + [path for path in found if path not in listed]
    return {path: found[path].copy(deep=False) for path in ordered}


def _is_image(node: xr.DataTree) -> bool:
    """Tell whether a node is an image; not the vector field of a transformation."""
    if image.group_kind(node) is not None or not image.level_nodes(node):
        return False
    return not any(axis.type in ("displacement", "coordinate") for axis in image.axes(node))


def _series(tree: xr.DataTree) -> list[str]:
    said = tree["OME"].attrs.get("ome", {}) if "OME" in tree.children else {}
    if not isinstance(said, dict) or "series" not in said:
        return []
    return list(read_series(said, Report("series")).paths or ())


def multiscales(tree: xr.DataTree) -> tuple[xr.DataTree, ...]:
    """Return all images of a group that holds several, the one that was opened first."""
    others = image.ome(tree).get("extra", {}).get("ome", {}).get("multiscales", [])
    return (tree, *(found for entry in others if (found := _other(tree, entry)) is not None))


def _other(tree: xr.DataTree, entry: Any) -> xr.DataTree | None:
    """Return the image that an object of ``multiscales`` beside the opened one describes."""
    from ngff_xarray.lazy import Coordinates

    version = image.version(tree) or "0.5"
    document = {"multiscales": [entry], "version": version}
    namespaced = spec.VERSIONS[version].ZARR_FORMAT == 3
    attributes = {"ome": document} if namespaced else document
    try:
        found = spec.read(attributes, Report("image"), kind="image", version=version)[2]
    except MetadataError:  # it is among the issues of the tree
        return None
    if not isinstance(found, Image):
        return None
    ndim = len(found.multiscale.axes)
    arrays = {level.path: _array(tree, level.path) for level in found.multiscale.levels}
    known = [level for level in found.multiscale.levels if _ndim(arrays[level.path]) == ndim]
    if not known:
        return None
    variables = [arrays[level.path].variable for level in known]
    axes = found.multiscale.axes
    placed = geometry.placed(known, [variable.shape for variable in variables], axes)
    whole = replace(found, multiscale=replace(found.multiscale, levels=placed))
    ome = ome_attrs(replace(whole, omero=image.ome(tree).get("omero")))
    nodes = {"/": xr.Dataset(attrs={"ome": ome})}
    nodes["/"].encoding = {**tree.encoding, "issues": (), "level_paths": [v.path for v in placed]}
    coordinates = Coordinates()
    for level, variable in zip(placed, variables, strict=True):
        shared = variable.copy(deep=False)
        shared.dims = tuple(axis.name for axis in axes)
        shared.attrs = {**variable.attrs, "ome": ome}
        coords = coordinates.of_level(whole, level, variable.shape)
        nodes[f"/{level.path}"] = xr.Dataset({"image": shared}, coords=coords)
    return xr.DataTree.from_dict(nodes)


def _array(tree: xr.DataTree, path: str) -> Any:
    """Return the array at a path of the tree, be it a level of the opened image or of another."""
    node = node_at(tree, path)
    found = {} if node is None else node.data_vars
    return next((array for name, array in found.items() if name in ("image", "array")), None)


def _ndim(array: Any) -> int | None:
    return None if array is None else array.ndim


def plate(tree: xr.DataTree) -> Plate:
    """Return the plate that a node describes: rows, columns and wells."""
    return hcs.parse_plate(tree.attrs["ome"]["plate"])


def acquisitions(tree: xr.DataTree) -> list[dict[str, Any]]:
    """Return the acquisitions of a plate, as stored."""
    found = tree.attrs["ome"]["plate"].get("acquisitions")
    entries = found if isinstance(found, list) else []
    return [dict(entry) for entry in entries if isinstance(entry, dict)]


def wells(tree: xr.DataTree) -> pd.DataFrame:
    """Return a row for each well that a plate lists; nothing is read.

    Returns
    -------
    pandas.DataFrame
        By the path of the well: its ``row``, ``column`` and ``path``, and where they are known so
        far the paths of its ``fields`` and the ``acquisition`` of each, as tuples, else None.
        They are known of wells that were opened with the plate, and of all in a plate with
        consolidated metadata. Then the columns that were joined; see `well_tables.join`.
    """
    import pandas as pd

    listed = plate(tree).wells
    known = [_known_fields(tree, found.path) for found in listed]
    columns = {
        "row": [found.row for found in listed],
        "column": [found.column for found in listed],
        "path": [found.path for found in listed],
    }
    frame = pd.DataFrame(columns, index=pd.Index(columns["path"], name="well"), dtype=object)
    for name, place in (("acquisition", 1), ("fields", 0)):
        cells = [None if fields is None else tuple(f[place] for f in fields) for fields in known]
        frame[name] = pd.Series(cells, index=frame.index, dtype=object)
    return frame.join(well_tables.joined(tree))


def _known_fields(tree: xr.DataTree, path: str) -> list[tuple[str, Any]] | None:
    """Return path and acquisition of the fields of a well, or None if nothing told them yet."""
    node = node_at(tree, path)
    if node is not None and is_opened(node):
        return hcs.parse_fields(node.attrs["ome"]["well"])
    if "place" not in tree.encoding:
        return None
    _, group = place(tree)
    found = group.documents.get(path if group.zarr_format == 3 else f"{path}/.zattrs", {})
    said = found.get("attributes") if group.zarr_format == 3 else found
    said = said.get("ome", said) if isinstance(said, dict) else {}
    return hcs.parse_fields(said["well"]) if isinstance(said, dict) and "well" in said else None


def well_paths(tree: xr.DataTree, wanted: Iterable[str] | None = None) -> list[str]:
    """Return the paths of wells by what they are called: ``"B/3"``, ``"B3"``, ``"b03"``; or all.

    Raises
    ------
    SelectionError
        If the plate has no such well.
    """
    listed = plate(tree)
    known = dict.fromkeys(found.path for found in listed.wells)
    if wanted is None:
        return list(known)
    path_of = well_tables.named(listed)
    paths = []
    for name in wanted:
        path = path_of(str(name).strip("/"))
        if path is None:
            raise SelectionError(f"there is no well {name!r}; the plate lists {shown(list(known))}")
        paths.append(path)
    return list(dict.fromkeys(paths))


def well(tree: xr.DataTree, path: str) -> xr.DataTree:
    """Return a well of a plate with its fields; it is read from the store if it was not yet.

    Parameters
    ----------
    tree
        The plate.
    path
        The path of the well, row and column (``"B/3"``, also ``"B3"`` or ``"B03"``).

    Raises
    ------
    SelectionError
        If the plate has no such well.
    StoreError
        If it is listed and not there, or where the plate came from is not known any more.
    """
    (wanted,) = well_paths(tree, [path])
    there = node_at(tree, wanted)
    if there is not None and is_opened(there):
        found: xr.DataTree | None = there.copy(deep=False)
    else:
        found = read_well(tree, wanted)
    if found is None:
        raise StoreError(
            f"well {wanted!r} is listed, but there is no group in the store: was it copied whole? "
            ".ngff.missing_fields() of the plate lists what is not there"
        )
    found.name = None
    return found


def node_at(tree: xr.DataTree, path: str) -> xr.DataTree | None:
    """Return the node at a path below a tree, or None."""
    node: xr.DataTree | None = tree
    for name in path.strip("/").split("/"):
        node = None if node is None else node.children.get(name)
    return node


def fields(tree: xr.DataTree) -> dict[str, xr.DataTree]:
    """Return the fields of view of a well, by path.

    Raises
    ------
    NotOmeError
        If the well was not opened: a plate knows its wells by name only.
    """
    if not is_opened(tree):
        raise NotOmeError("this well was not opened: take .ngff.well(path) of its plate")
    return images(tree)


def is_opened(node: Any) -> bool:
    """Tell whether a well was opened; a plate's wells know their row and column only."""
    return "well" in node.attrs.get("ome", {})


def read_well(tree: xr.DataTree, path: str) -> xr.DataTree | None:
    """Return a well from the store that the plate was opened from, or None if it is not there."""
    from ngff_xarray import read

    source, group = place(tree)
    found = read.open_below(source, group, path)
    known = {w.path: {"row": w.row, "column": w.column} for w in plate(tree).wells}
    if found is not None and path in known:
        found.attrs["ome"] = {**found.attrs["ome"], **known[path]}
    return found


def field(
    tree: xr.DataTree, path: str, number: int = 0, *, labels: bool = False
) -> xr.DataTree | None:
    """Return one field of a well of a plate, or None if the well is not there.

    Of a well that was not opened no more is read than that field.

    Parameters
    ----------
    tree
        The plate.
    path
        The path of the well, as the plate lists it.
    number
        Which of the fields.
    labels
        Whether to open its label images.

    Raises
    ------
    SelectionError
        If the well has no such field.
    """
    from ngff_xarray import read

    there = node_at(tree, path)
    if there is None or not is_opened(there):
        return read.open_field(
            *place(tree), path, number, labels=labels, version=image.version(tree)
        )
    known = list(images(there).values())
    if not -len(known) <= number < len(known):
        raise SelectionError(
            f"well {path!r} has {len(known)} fields; there is no field {number}: the first is 0"
        )
    return known[number]


def read_series_list(tree: xr.DataTree) -> xr.DataTree | None:
    """Return the group ``OME`` beside a plate, which opening does not read, if it lists series."""
    from ngff_xarray import read, store

    if "place" not in tree.encoding:
        return None
    source, group = place(tree)
    try:
        found = store.run(store.fetch_child_group(source, group, "OME"))
        is_list = found is not None and spec.detect_kind(found.attributes) == "series"
        return read.open_below(source, group, "OME") if is_list else None
    except NgffError:  # nobody can read it
        return None


def attributes_below(tree: xr.DataTree, paths: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the attributes of groups below that are no groups of OME's, by path.

    They are read now; those without any, and those that cannot be read, are left out.
    """
    from ngff_xarray import store

    if "place" not in tree.encoding:
        return {}
    source, group = place(tree)

    async def fetched() -> list[Group | BaseException | None]:
        found = (store.fetch_child_group(source, group, path) for path in paths)
        return await asyncio.gather(*found, return_exceptions=True)

    attributes = {
        path: {key: value for key, value in found.attributes.items() if key != "ome"}
        for path, found in zip(paths, store.run(fetched()), strict=True)
        if isinstance(found, store.Group) and spec.detect_kind(found.attributes) is None
    }
    return {path: found for path, found in attributes.items() if found}


def place(obj: Obj) -> tuple[Source, Group]:
    """Return where in a store an object was opened, and what the metadata there said.

    Raises
    ------
    StoreError
        If it was not opened from a store, or this is not known any more.
    """
    found = obj.encoding.get("place")
    if found is None:
        raise StoreError(
            "where this object came from is not known any more: open it again with "
            "xr.open_datatree(path)"
        )
    source, group = found
    return source, group


def place_now(obj: Obj) -> tuple[Source, Group]:
    """Return where in a store an object was opened, and what the metadata there say now."""
    from ngff_xarray import store

    source, _ = place(obj)
    return source, store.require_group(source, store.look(source))


def xml_bytes(tree: xr.DataTree) -> bytes | None:
    """Return the OME-XML beside a collection or a plate as it is stored, None if there is none.

    Raises
    ------
    MetadataError
        If it is larger or nested deeper than such documents are, or no XML.
    """
    from ngff_xarray import store
    from ngff_xarray.storage import is_zarr_only

    if "place" not in tree.encoding:
        return None
    source, _ = place(tree)
    below = source if "series" in tree.attrs.get("ome", {}) else source.child("OME")
    if is_zarr_only(source.store):
        return None
    found = store.fetch_bytes(below, "METADATA.ome.xml", MAX_XML_BYTES)
    if found is not None:
        check_xml(found, below.url)
    return found


def ome_xml(tree: xr.DataTree) -> str | None:
    """Return the OME-XML beside a collection or a plate as text; see `xml_bytes`."""
    found = xml_bytes(tree)
    return None if found is None else found.decode(_encoding(found), errors="replace")


def _encoding(document: bytes) -> str:
    return "utf-16" if document[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def check_xml(document: bytes, url: str) -> None:
    """Refuse what only attacks look like: deep nesting, and documents that define entities."""
    depth = 0
    parser = expat.ParserCreate()

    def fail(message: str) -> MetadataError:
        return MetadataError(url, [Issue("METADATA.ome.xml", message, "error")])

    def start(name: str, attributes: Any) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_XML_DEPTH:
            raise fail(f"is nested deeper than {MAX_XML_DEPTH} elements")

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1

    def doctype(*declared: Any) -> None:
        raise fail("declares a document type, which OME-XML does not")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(document, True)
    except expat.ExpatError as error:
        raise fail(f"is no XML: {error}") from error


def ome(tree: xr.DataTree) -> OME:
    """Return the OME-XML beside a collection or a plate as objects of ome-types.

    Raises
    ------
    MissingDependencyError
        If ome-types is not installed.
    StoreError
        If there is no OME-XML.
    """
    try:
        from ome_types import from_xml
    except ImportError as error:
        raise MissingDependencyError("ome-types", "ome", "parsing OME-XML") from error
    text = ome_xml(tree)
    if text is None:
        raise StoreError(
            "there is no OME-XML beside this image, as bioformats2raw writes it: what the store "
            "says of it is in .attrs['ome']"
        )
    return from_xml(text)
