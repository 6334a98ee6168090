"""A tree -> a store: what its groups say, last, and what stands beside its levels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import xarray as xr
from zarr.abc.store import Store

from ngff_xarray import groups, image, store, unfinished
from ngff_xarray.describe import described, other_attributes
from ngff_xarray.errors import UnsupportedError
from ngff_xarray.image import Obj
from ngff_xarray.lazy import PARAMETERS
from ngff_xarray.model import Collection, Image
from ngff_xarray.spec.documents import Content
from ngff_xarray.store import join
from ngff_xarray.write.levels import contrast_of, storage, with_contrast, write_array, write_levels
from ngff_xarray.write.writing import Writing, check_json, commit, moved


def check(obj: Obj, writing: Writing) -> bool:
    """Describe everything that is to be written once, so that what cannot be said raises first.

    Returns
    -------
    bool
        Whether there is OME-XML beside any of it.
    """
    content = described(obj, lossy=writing.lossy)
    if isinstance(content, Image):
        content = _with_writable_others(content, image.version(obj), writing)
        for array in image.levels(obj):
            if array.dtype.kind in "OSTUV":
                raise UnsupportedError(
                    f"the pixels are {array.dtype}: expected numbers: convert them"
                )
            check_json(other_attributes(array))
            storage(array, (), writing)
    check_json({**other_attributes(obj), **writing.attributes(content)})
    has_xml = False
    if isinstance(obj, xr.DataTree) and image.group_kind(obj) in ("collection", "plate"):
        has_xml = groups.xml_bytes(obj) is not None
    for name, child in _below(obj).items():
        opened = _opened(obj, name, child)
        if opened is not None:
            has_xml |= check(opened, writing)
    return has_xml


def _opened(obj: Obj, name: str, child: xr.DataTree) -> xr.DataTree | None:
    """Return a group below, read from the store if it is a well that was not opened."""
    if isinstance(obj, xr.DataTree) and _is_unopened(child):
        return groups.read_well(obj, name)
    return child


def _below(obj: Obj) -> dict[str, xr.DataTree]:
    """Return the groups of OME's to write below an object, by path, with what opening left out."""
    found = _children(obj)
    if isinstance(obj, xr.DataTree) and image.group_kind(obj) == "plate" and "OME" not in found:
        listing = groups.read_series_list(obj)
        return found if listing is None else {**found, "OME": listing}
    return found


def _children(obj: Obj) -> dict[str, xr.DataTree]:
    """Return the groups of OME's next below an object, by path."""
    if not isinstance(obj, xr.DataTree):
        return {}
    found: dict[str, xr.DataTree] = {}
    for name, child in obj.children.items():
        if _is_ome(child):
            found[str(name)] = child
        else:
            found |= {f"{name}/{path}": node for path, node in _children(child).items()}
    return found


def _is_ome(node: xr.DataTree) -> bool:
    """Tell whether a node is a group of OME's; not a group ``OME`` that lists no series."""
    if not isinstance(node.attrs.get("ome"), dict):
        return False
    return node.name != "OME" or image.group_kind(node) is not None or bool(image.level_nodes(node))


def _is_unopened(node: xr.DataTree) -> bool:
    """Tell whether a node is a well that a plate lists and that was not opened."""
    return image.group_kind(node) == "well" and not groups.is_opened(node)


def write_node(obj: Obj, target: Store, path: str, writing: Writing) -> None:
    """Write a group and all that is below it, its attributes last."""
    if writing.goes_on and _is_whole(target, path, writing):
        writing.resume.groups += 1
        return
    commit(target, path, write_content(obj, target, path, writing), writing)


def _is_whole(target: Store, path: str, writing: Writing) -> bool:
    """Tell whether a group was written by a run that was killed: what it says came last."""
    group = store.run(store.fetch_group(store.Source(target, path, path), writing.zarr_format))
    if group is None or not group.attributes or unfinished.is_marked(group.attributes):
        return False
    name = ".zgroup" if writing.zarr_format == 2 else "zarr.json"
    return store.run(target.exists(join(path, name)))


def write_content(obj: Obj, target: Store, path: str, writing: Writing) -> dict[str, Any]:
    """Write all that is below a group; return what its attributes are to say."""
    content = described(obj, lossy=writing.lossy)
    children = _below(obj)
    for name, child in children.items():
        opened = _opened(obj, name, child)
        if opened is not None:
            write_node(opened, target, join(path, name), writing)
    if isinstance(obj, xr.DataTree):
        _write_between(obj, target, path, children, writing)
        _write_beside(obj, target, path, writing)
    if isinstance(content, Image):
        names = [axis.extra.get("name", axis.name) for axis in content.multiscale.axes]
        arrays = image.levels(obj)
        paths = [level.path for level in content.multiscale.levels]
        kept = [
            array.assign_attrs(_attributes_v2(obj, below))
            for below, array in zip(paths, arrays, strict=True)
        ]
        contrast = contrast_of(obj, writing)
        new = [writing.placed(below) for below in paths]
        content = moved(content, new)
        places = [join(path, below) for below in new]
        write_levels(target, places, kept, names, writing, contrast)
        if contrast is not None:
            content = with_contrast(content, arrays[0], contrast.windows())
        content = _with_writable_others(content, image.version(obj), writing)
    if image.group_kind(obj) in ("collection", "plate"):
        content = _with_present(content, children)
        if writing.keeps_xml:
            _copy_xml(obj, target, path)
    return {**other_attributes(obj), **writing.attributes(content)}


def _with_writable_others(content: Image, opened_from: str | None, writing: Writing) -> Image:
    """Return the image with the group's other images, if the version spells them as they are."""
    others = content.extra.get("multiscales")
    if not others or (opened_from == "0.6") == (writing.version == "0.6"):
        return content
    if not writing.lossy:
        raise UnsupportedError(
            f"the other images of this group are described as in version {opened_from}: write "
            "that version, or give lossy=True to leave them out"
        )
    extra = {key: value for key, value in content.extra.items() if key != "multiscales"}
    return replace(content, extra=extra)


def _with_present(content: Content, children: Mapping[str, xr.DataTree]) -> Content:
    """Return a labels group that lists the label images that are written."""
    if not isinstance(content, Collection) or "labels" not in content.document:
        return content
    listed = content.document["labels"]
    listed = listed if isinstance(listed, list) else []
    kept = [p for p in listed if isinstance(p, str) and p.strip("/") in children]
    added = [path for path in children if path not in {p.strip("/") for p in kept}]
    return replace(content, document={**content.document, "labels": [*kept, *added]})


def _write_between(
    tree: xr.DataTree, target: Store, path: str, children: Iterable[str], writing: Writing
) -> None:
    """Write the attributes of groups on the way down: rows of a plate, ``scale0`` of a level.

    Nothing in them is OME's, and opening does not read them.
    """
    levels = image.level_paths(tree) if image.group_kind(tree) is None else ()
    names = dict.fromkeys(name for below in (*children, *levels) for name in _above(below))
    beside = ["OME"] if image.group_kind(tree) == "plate" else []
    for name, attributes in groups.attributes_below(tree, [*names, *beside]).items():
        commit(target, join(path, name), attributes, writing)


def _above(path: str) -> Iterator[str]:
    """Yield the paths of the groups that lead to a path."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _write_beside(tree: xr.DataTree, target: Store, path: str, writing: Writing) -> None:
    """Write what is no level and no group of OME's.

    Parameters of transformations, levels of the group's other images, and attributes of groups.
    """
    for name, child in tree.children.items():
        if _is_ome(child):
            continue
        if child.attrs and not child.data_vars:
            said = child.attrs.get("ome")
            ome = writing.attributes(Collection(None, said)) if isinstance(said, dict) else {}
            commit(target, join(path, str(name)), {**other_attributes(child), **ome}, writing)
        for variable in ("array", PARAMETERS):
            if variable in child.data_vars:
                array = child.data_vars[variable]
                names = [str(dim) for dim in array.dims] if variable == "array" else None
                write_array(target, join(path, str(name)), array, names, writing)
        _write_beside(child, target, join(path, str(name)), writing)
    if "labels" in tree.children and image.group_kind(tree["labels"]) is None:
        labels = _children(tree["labels"])
        if labels:  # label images that stand below no labels group of their own
            content = Collection(tuple(labels), {"labels": list(labels)})
            commit(target, join(path, "labels"), writing.attributes(content), writing)


def _copy_xml(obj: Obj, target: Store, path: str) -> None:
    """Copy the OME-XML of a bioformats2raw store, as it is."""
    if not isinstance(obj, xr.DataTree) or "series" in obj.attrs["ome"]:
        return
    found = groups.xml_bytes(obj)
    if found is not None:
        store.put_bytes(target, join(path, "OME/METADATA.ome.xml"), found)


def _attributes_v2(obj: Obj, path: str) -> dict[str, Any]:
    """Return the attributes of an array of Zarr v2, which opening does not read."""
    place = obj.encoding.get("place")
    if place is None or obj.encoding.get("zarr_format") != 2:
        return {}
    found = store.run(store.fetch_json(place[0].child(path), ".zattrs")) or {}
    return {key: value for key, value in found.items() if key not in ("_ARRAY_DIMENSIONS", "ome")}
