"""Projects for MoBIE, Fiji's viewer of large images in grids, with tables of objects and wells."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from zarr.storage import StorePath

from ngff_xarray import geometry, groups, image, read
from ngff_xarray.contrast import Contrast
from ngff_xarray.errors import NotOmeError, StoreError, UnsupportedError
from ngff_xarray.export.copying import copy_to
from ngff_xarray.export.files import new_file
from ngff_xarray.export.label_boxes import label_boxes
from ngff_xarray.export.links import public_url_of
from ngff_xarray.export.locations import locate
from ngff_xarray.export.looks import Look, looks
from ngff_xarray.export.mobie_views import (
    Source,
    Tile,
    View,
    alone,
    by_origin,
    display,
    grid_view,
    plain,
    square,
    view,
)
from ngff_xarray.export.places import place
from ngff_xarray.image import Obj
from ngff_xarray.progress import progress as progress_bar
from ngff_xarray.render import label_colors
from ngff_xarray.spec import omero
from ngff_xarray.storage import Access
from ngff_xarray.text import printable
from ngff_xarray.urls import is_url, local_path

if TYPE_CHECKING:
    import pandas as pd

VERSION = "0.3.0"  # of MoBIE's specification

_SAMPLE = 2**22  # pixels that a range is found from
_KINDS = ("image", "labels", "plate", "well", "collection")


def to_mobie(
    obj: Obj,
    directory: str | os.PathLike[str],
    *,
    dataset: str | None = None,
    copy: bool = False,
    tables: bool | None = None,
    description: str | None = None,
    version: str | None = None,
    progress: bool | None = None,
) -> None:
    """Write a project for MoBIE: an image, a plate or a collection as one of its datasets.

    In Fiji: Plugins › MoBIE › Open › Open MoBIE Project. Each channel and each label image is a
    source, with its colours and its range; the default view shows all of them, plates and
    collections as a grid.

    Parameters
    ----------
    obj
        An image with its levels, a label image, plate, well or collection: a tree.
    directory
        Of the project. Where there is one already, the dataset is added to it.
    dataset
        The name of the dataset; by default that of the image.
    copy
        Whether to copy the pixels into the project, which can then be moved or uploaded as it is,
        and which is the only way for images that were cropped, computed, or are in a zip file.
        By default the project links to the store: to the web address of one on the web, or by a
        path from the project to a folder, so that both have to stay where they are to each other.
    tables
        Whether to write tables of the objects in label images: where they are, which is found from
        their finest level, and their properties. By default so, but for plates.
    description
        Of the dataset.
    version
        Of OME-Zarr, where pixels are copied; the validator of MoBIE's Python package knows 0.4
        alone.
    progress
        Whether to show bars; by default in notebooks and terminals, after a second.

    Raises
    ------
    StoreError
        If there is such a dataset, the directory cannot be written, or MoBIE cannot reach the
        pixels where they are.
    UnsupportedError
        If an image was cropped or computed, and ``copy`` is not asked for.

    Notes
    -----
    Plates: fields lie in their wells by where they begin, if their coordinates say so, else in
    rows. Wells are named, and their table has what was joined (`well_tables.join`). What is listed
    and not in the store is left out.

    Examples
    --------
    >>> import tempfile, ngff_xarray
    >>> tree = xr.open_datatree(ngff_xarray.sample("cell"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_mobie(tree, folder, copy=True)
    ...     sorted(json.loads(Path(folder, "cell", "dataset.json").read_text())["sources"])
    ['cell', 'cell_cell']
    """
    tree, kind = _tree(obj)
    root = _local(directory)
    project = _project(root)
    name = plain(dataset or image.name(_titled(tree)) or "", kind)
    folder = root / name
    if name in project["datasets"] or (folder / "dataset.json").exists():
        raise StoreError(
            f"{printable(folder, 500)}: there is such a dataset already: give another name with "
            "dataset=…, or remove it"
        )
    found = _copied(tree, folder, name, version, progress) if copy else tree
    with_tables = tables if tables is not None else kind != "plate"
    made = _Dataset(folder, _Place(folder, copy), with_tables, progress)
    views = _WAYS.get(kind, _grid)(made, found, name)
    document = {
        "is2D": made.is_flat,
        **({} if description is None else {"description": description}),
        "sources": made.sources,
        "views": views,
    }
    _write_json(folder / "dataset.json", document)
    datasets = [*project["datasets"], name]
    _write_json(root / "project.json", {"defaultDataset": name, **project, "datasets": datasets})


def _tree(obj: Obj) -> tuple[xr.DataTree, str]:
    """Return the tree, and what it is."""
    kind = image.kind(obj) if isinstance(obj, xr.DataTree) else type(obj).__name__
    if kind not in _KINDS or not isinstance(obj, xr.DataTree):
        raise NotOmeError(f"this is a {kind}: expected a tree of an {', '.join(_KINDS)}")
    return obj, kind


def _titled(tree: xr.DataTree) -> xr.DataTree:
    """Return a tree whose name is that of the plate, if it is one."""
    said = tree.attrs.get("ome", {})
    title = said["plate"].get("name") if isinstance(said.get("plate"), dict) else None
    if not isinstance(title, str):
        return tree
    return xr.DataTree(xr.Dataset(attrs={"ome": {"name": title}}))


def _local(directory: str | os.PathLike[str]) -> Path:
    text = local_path(os.fspath(directory))
    if is_url(text):
        raise StoreError(
            f"{printable(text, 500)}: a project is written on this machine: give a path, with "
            "copy=True if it is to be uploaded"
        )
    return Path(text).expanduser().absolute()


def _project(root: Path) -> dict[str, Any]:
    """Return what a project says so far.

    Raises
    ------
    StoreError
        If there is something that is no project, or one of another version.
    """
    path = root / "project.json"
    if not path.exists():
        return {"specVersion": VERSION, "datasets": []}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{printable(path, 500)}: cannot be read: {error}") from error
    said = found if isinstance(found, dict) else {}
    own = str(said.get("specVersion")).rpartition(".")[0] == VERSION.rpartition(".")[0]
    if not own or not isinstance(said.get("datasets"), list):
        raise StoreError(
            f"{printable(path, 500)}: is no project of MoBIE in version {VERSION}: give another "
            "directory"
        )
    return said


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{printable(path, 500)}: cannot be written: {error}") from error
    with new_file(path, overwrite=True) as part:
        part.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _copied(
    tree: xr.DataTree, folder: Path, name: str, version: str | None, progress: bool | None
) -> xr.DataTree:
    """Return a copy of a tree in the dataset, opened."""
    target = folder / "images" / "ome-zarr" / f"{name}.ome.zarr"
    target.parent.mkdir(parents=True, exist_ok=True)
    copy_to(tree, target, mode="w", version=version, progress=progress)
    return read.open_tree(target)


class _Place:
    """Says where the pixels of images are, as MoBIE finds them from the folder of a dataset."""

    def __init__(self, folder: Path, copied: bool) -> None:
        self.folder, self.copied = folder, copied

    def of(self, tree: Obj) -> dict[str, dict[str, Any]]:
        """Return the ``imageData`` of an image.

        Raises
        ------
        StoreError
            If MoBIE cannot reach it.
        UnsupportedError
            If the store does not hold it as it is.
        """
        try:
            source, _ = place(tree)
            found = locate(source)
            if found.kind == "file":
                return {"ome.zarr": {"relativePath": self._path(found.path)}}
            return {"ome.zarr.s3": {"s3Address": public_url_of(source)}}
        except UnsupportedError as error:
            raise UnsupportedError(f"{error}; or pass copy=True") from error
        except StoreError as error:
            raise StoreError(f"{error}; or pass copy=True") from error

    def _path(self, path: str) -> str:
        try:
            return Path(os.path.relpath(path, self.folder)).as_posix()
        except ValueError as error:  # on another drive of Windows
            raise StoreError(
                f"{printable(path, 500)}: no path leads there from the project"
            ) from error


@dataclass
class _Dataset:
    """Gathers the sources of a dataset, and writes their tables."""

    folder: Path
    place: _Place
    with_tables: bool
    progress: bool | None
    sources: dict[str, Any] = field(default_factory=dict)
    is_flat: bool = True

    def named(self, text: str) -> str:
        """Return a name that no source has yet."""
        return _unused(plain(text), self.sources)

    def add(self, name: str, tree: xr.DataTree) -> dict[str, Source]:
        """Add the channels and label images of an image; return them by what they show."""
        self.is_flat = self.is_flat and _depth(tree) == 1
        found: dict[str, Source] = {}
        if image.kind(tree) == "labels":
            found[name] = self._labels(name, tree)
            return found
        drawn = looks(tree)
        data = self.place.of(tree)
        for look in drawn:
            channel = plain(look.channel.name, "channel")
            alone = len(drawn) == 1
            own = self.named(name if alone else f"{name}_{channel}")
            self.sources[own] = {"image": {"imageData": _with_channel(data, look)}}
            limits = look.limits or _limits(tree, look)
            group = _unused("image" if alone else channel, found)
            found[group] = Source(own, look, limits)
        for path, label in image.label_images(tree).items():
            found[_unused(plain(f"labels_{path}"), found)] = self._labels(f"{name}_{path}", label)
        return found

    def _labels(self, name: str, tree: xr.DataTree) -> Source:
        own = self.named(name)
        said: dict[str, Any] = {"imageData": self.place.of(tree)}
        colored = False
        if self.with_tables:
            table = _objects(tree, self.progress)
            said["tableData"] = self.write_table(own, table)
            colored = "rgba" in table.columns
        self.sources[own] = {"segmentation": said}
        return Source(own, None, colored=colored)

    def add_regions(self, name: str, table: pd.DataFrame) -> str:
        """Add a table of regions; return its name."""
        own = self.named(name)
        self.sources[own] = {"regions": {"tableData": self.write_table(own, table)}}
        return own

    def write_table(self, name: str, table: pd.DataFrame) -> dict[str, Any]:
        """Write a table; return what says where it is."""
        path = self.folder / "tables" / name / "default.tsv"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with new_file(path, overwrite=True) as part:
                table.to_csv(part, sep="\t", index=False, na_rep="nan", encoding="utf-8")
        except OSError as error:
            raise StoreError(f"{printable(path, 500)}: cannot be written: {error}") from error
        return {"tsv": {"relativePath": f"tables/{name}"}}


def _unused(name: str, taken: Container[str]) -> str:
    """Return a name, with a number behind it if it is taken."""
    unique, number = name, 1
    while unique in taken:
        number += 1
        unique = f"{name}_{number}"
    return unique


def _with_channel(data: Mapping[str, Mapping[str, Any]], look: Look) -> dict[str, Any]:
    more = {} if look.index is None else {"channel": look.index}
    return {kind: {**said, **more} for kind, said in data.items()}


def _letters(array: xr.DataArray) -> dict[str, str]:
    """Return the dimensions of space with the letters of MoBIE's tables."""
    down, right = image.plane_dims(array)
    space = [axis.name for axis in image.axes(array) if axis.type == "space"]
    deep = {dim: "z" for dim in space if dim not in (down, right)}
    return {**deep, down: "y", right: "x"}


def _depth(tree: Obj) -> int:
    array = image.levels(tree)[0]
    return math.prod(array.sizes[d] for d, letter in _letters(array).items() if letter == "z")


def _limits(tree: Obj, look: Look) -> tuple[float, float]:
    """Return the range of a channel that says none, from its coarsest level."""
    array = image.levels(tree)[-1]
    dim = image.channel_dim(array)
    if dim is not None and look.index is not None:
        array = array.isel({dim: look.index})
    step = max(1, math.ceil((array.size / _SAMPLE) ** (1 / max(array.ndim, 1))))
    pixels = np.asarray(array[(slice(None, None, step),) * array.ndim].values)
    contrast = Contrast(pixels.shape)
    contrast.add((0,) * pixels.ndim, pixels)
    (window,) = contrast.windows()
    return float(window["start"]), float(window["end"])


def _objects(tree: Obj, progress: bool | None) -> pd.DataFrame:
    """Return the table of the objects of a label image: where they are, and their properties."""
    array = image.levels(tree)[0]
    letters = _letters(array)
    with progress_bar("looking at labels", "B", progress) as bar:
        table = label_boxes(array, letters, bar)
    if _depth(tree) == 1:
        table = table.drop(columns=[name for name in table.columns if name.endswith("_z")])
    if (table["timepoint"] == 0).all():
        table = table.drop(columns="timepoint")
    stored = image.label_colors(tree)
    if stored:
        colors = label_colors(table["label_id"].to_numpy(), stored)
        table["rgba"] = [f"r{r}-g{g}-b{b}-a{a}" for r, g, b, a in colors.tolist()]
    properties = image.label_properties(tree)
    properties = properties.rename(
        columns={c: f"{c}_" for c in properties.columns if str(c) in table.columns}
    )
    return table.merge(properties, how="left", left_on="label_id", right_index=True)


# ---- what is shown -------------------------------------------------------------------------------


def _timepoint(tree: Obj) -> int | None:
    """Return the time that the image is to show first."""
    for axis in image.axes(tree):
        if axis.type == "time":
            return omero.default_index(image.ome(tree).get("omero"), axis.type, axis.name)
    return None


def _image(made: _Dataset, tree: xr.DataTree, name: str) -> dict[str, View]:
    """Add an image; return its views."""
    sources = list(made.add(name, tree).values())
    displays = [display(source, source.name, [source.name]) for source in sources]
    default = view(displays, "bookmark", timepoint=_timepoint(tree))
    return {"default": default, **{source.name: alone(source) for source in sources}}


def _grid(made: _Dataset, tree: xr.DataTree, name: str) -> dict[str, View]:
    """Add the images of a collection or well; return their views."""
    found = groups.images(tree)
    if not found:
        raise NotOmeError("there is no image in it")
    places = square(len(found))
    tiles = []
    for path, each in found.items():
        own = plain(path)
        sources = made.add(f"{name}_{own}", each)
        tiles.append(Tile(own, own, sources, (0, 0), _size(each)))
    table = _table((tile.region, {"image": tile.name}) for tile in tiles)
    tables = {"regions": made.add_regions(plain(f"{name}_images"), table)}
    at = {tile.region: position for tile, position in zip(tiles, places, strict=True)}
    default = grid_view(tiles, at, tables, "bookmark", _timepoint(next(iter(found.values()))))
    own_views = {s.name: alone(s) for tile in tiles for s in tile.sources.values()}
    return {"default": default, **own_views}


def _plate(made: _Dataset, tree: xr.DataTree, name: str) -> dict[str, View]:
    """Add the fields of a plate; return its view."""
    source, _ = groups.place(tree)
    opened = read.open_tree(StorePath(source.store, source.path), access=Access(), wells="all")
    plate = groups.plate(tree)
    rows = list(dict.fromkeys([*plate.rows, *(well.row for well in plate.wells)]))
    columns = list(dict.fromkeys([*plate.columns, *(well.column for well in plate.wells)]))
    tiles: list[Tile] = []
    places: dict[str, tuple[int, int]] = {}
    paths: dict[str, str] = {}
    with progress_bar("adding wells", "wells", made.progress) as bar:
        bar.more(len(plate.wells))
        for well in plate.wells:
            region = plain(f"{well.row}{well.column}")
            if region in places:
                region = plain(well.path)
            found = list(_fields(made, opened, well.path, region))
            if found:
                places[region] = columns.index(well.column), rows.index(well.row)
                paths[region] = well.path
                tiles += found
            bar.did()
            bar.show()
    if not tiles:
        raise NotOmeError("none of the plate's wells is in the store")
    tables = {"regions": made.add_regions("wells", _wells(tree, paths))}
    if len(tiles) > len(places):
        fields = _table((tile.name, {"well": tile.region}) for tile in tiles)
        tables["images"] = made.add_regions("fields", fields)
    shown = grid_view(tiles, places, tables, "plates")
    return {"default": shown, name: shown}


def _fields(made: _Dataset, opened: xr.DataTree, path: str, region: str) -> Iterator[Tile]:
    """Add the fields of a well; yield them."""
    node = groups.node_at(opened, path)
    if node is None or not groups.is_opened(node):
        return
    found = groups.fields(node)
    arrays = [image.levels(each)[0] for each in found.values()]
    for (own, each), position in zip(found.items(), _positions(arrays), strict=True):
        title = region if len(found) == 1 else f"{region}_{own}"
        yield Tile(plain(title), region, made.add(title, each), position, _size(each))


def _size(tree: Obj) -> tuple[Any, ...]:
    """Return what images must have in common for MoBIE to merge them."""
    shapes = [level.shape for level in image.levels(tree)]
    steps = tuple(sorted(image.pixel_sizes(tree).items()))
    return (tuple(shapes), steps, str(image.levels(tree)[0].dtype))


def _positions(arrays: list[xr.DataArray]) -> list[tuple[int, int]]:
    """Return where the fields of a well lie in it, column and row."""
    origins, sizes = [], []
    for array in arrays:
        down, right = image.plane_dims(array)
        if not all(
            dim in array.coords and geometry.is_numeric(array[dim]) for dim in (down, right)
        ):
            return square(len(arrays))
        (left, end), (top, bottom) = (
            sorted(geometry.numbers(array[dim])[[0, -1]].tolist()) for dim in (right, down)
        )
        origins.append((left, top))
        sizes.append((end - left, bottom - top))
    return by_origin(origins, sizes[0]) if sizes else []


def _wells(tree: xr.DataTree, paths: Mapping[str, str]) -> pd.DataFrame:
    """Return the table of a plate's wells."""
    wells = groups.wells(tree).loc[list(paths.values())]
    table = wells.drop(columns=["path", "fields", "acquisition"])
    table.insert(0, "region_id", list(paths))
    return table


def _table(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame([{"region_id": name, **said} for name, said in rows])


_WAYS = {"image": _image, "labels": _image, "plate": _plate}
