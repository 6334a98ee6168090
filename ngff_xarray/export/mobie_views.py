"""What MoBIE shows of sources: displays, views and grids, as its schemas (0.3) have them.

https://mobie.github.io/specs/mobie_spec.html
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ngff_xarray.export.looks import Look

View = dict[str, Any]

_NOT_PLAIN = re.compile(r"[;,/\\\s]+")


@dataclass(frozen=True, slots=True)
class Source:
    """A channel of an image, or one of its label images, as MoBIE has it: by name.

    Parameters
    ----------
    name
        What it is called in the dataset.
    look
        How a channel is drawn; None of labels.
    limits
        The values drawn darkest and brightest.
    colored
        Whether the table of labels has a column of their colours.
    """

    name: str
    look: Look | None
    limits: tuple[float, float] = (0.0, 255.0)
    colored: bool = False


@dataclass(frozen=True, slots=True)
class Tile:
    """An image in a grid: its sources by group, and where it is.

    ``position`` is that of the image in its region, ``region`` the name of what the grid shows in
    one place, such as a well, and ``size`` what must be the same for images to be merged.
    """

    name: str
    region: str
    sources: Mapping[str, Source]
    position: tuple[int, int]
    size: tuple[Any, ...]


def plain(text: str, fallback: str = "image") -> str:
    """Return a name as MoBIE allows it.

    Examples
    --------
    >>> plain("my cell/1; DAPI"), plain(" ")
    ('my_cell_1_DAPI', 'image')
    """
    return _NOT_PLAIN.sub("_", text).strip("_") or fallback


def display(source: Source, name: str, sources: Sequence[str]) -> dict[str, Any]:
    """Return how sources that look alike are drawn."""
    if source.look is None:
        look = {"lut": "rgbaColumn", "colorByColumn": "rgba"} if source.colored else {}
        said = {"name": name, "sources": list(sources), "opacity": 0.5, "lut": "glasbey", **look}
        return {"segmentationDisplay": said}
    red, green, blue = source.look.color
    shown = {
        "name": name,
        "sources": list(sources),
        "color": f"r{red}-g{green}-b{blue}-a255",
        "contrastLimits": list(source.limits),
        "opacity": 1.0,
        "blendingMode": "sum",
        "visible": source.look.channel.active,
    }
    return {"imageDisplay": {**shown, "invert": True} if source.look.is_inverted else shown}


def view(
    displays: Iterable[Mapping[str, Any]],
    menu: str,
    transforms: Iterable[Mapping[str, Any]] = (),
    *,
    exclusive: bool = True,
    timepoint: int | None = None,
) -> View:
    """Return a view; `menu` is where it stands in MoBIE's list."""
    made: View = {
        "isExclusive": exclusive,
        "uiSelectionGroup": menu,
        "sourceDisplays": list(displays),
    }
    listed = list(transforms)
    if listed:
        made["sourceTransforms"] = listed
    if timepoint:
        made["viewerTransform"] = {"timepoint": timepoint}
    return made


def alone(source: Source) -> View:
    """Return the view of one source, which is added to what is shown."""
    menu = "segmentations" if source.look is None else "images"
    return view([display(source, source.name, [source.name])], menu, exclusive=False)


def grid_view(
    tiles: Sequence[Tile],
    places: Mapping[str, tuple[int, int]],
    tables: Mapping[str, str],
    menu: str,
    timepoint: int | None = None,
) -> View:
    """Return a view of images in a grid of regions, such as the wells of a plate.

    Images that are all alike are merged, which MoBIE draws fast; others are moved.

    Parameters
    ----------
    tiles
        The images.
    places
        Where each region lies: column and row, as MoBIE's viewer and mobie-utils take them, though
        its schema says row and column.
    tables
        The table sources of the ``"regions"``, and of the ``"images"`` in them, where there are.
    menu, timepoint
        As of `view`.
    """
    grids = _merged if _are_alike(tiles) else _moved
    displays, transforms, shown = grids(tiles, places)
    images = {tile.name: [source.name for source in tile.sources.values()] for tile in tiles}
    for kind, mapping in (("images", images), ("regions", shown)):
        if kind in tables:
            displays.append(_regions(tables[kind], mapping))
    return view(displays, menu, transforms, timepoint=timepoint)


def _regions(table: str, mapping: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    return {
        "regionDisplay": {
            "name": table,
            "tableSource": table,
            "sources": {name: list(sources) for name, sources in mapping.items()},
            "lut": "glasbey",
            "opacity": 0.5,
            "showAsBoundaries": True,
            "boundaryThickness": 0.05,
            "boundaryThicknessIsRelative": True,
        }
    }


def _groups(tiles: Sequence[Tile]) -> dict[str, Source]:
    """Return a source of every group, by which all of the group are drawn."""
    return {group: source for tile in reversed(tiles) for group, source in tile.sources.items()}


def _by_region(tiles: Sequence[Tile]) -> dict[str, list[Tile]]:
    found: dict[str, list[Tile]] = {}
    for tile in tiles:
        found.setdefault(tile.region, []).append(tile)
    return found


def _are_alike(tiles: Sequence[Tile]) -> bool:
    """Tell whether all images are of one size and kind, in regions that look the same."""
    looks = {(tile.size, tuple(tile.sources)) for tile in tiles}
    places = {tuple(tile.position for tile in some) for some in _by_region(tiles).values()}
    return len(looks) == 1 and len(places) == 1


Grid = tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, list[str]]]


def _merged(tiles: Sequence[Tile], places: Mapping[str, tuple[int, int]]) -> Grid:
    """Return displays, transformations, and what is shown of every region, merged to one source."""
    regions = _by_region(tiles)
    displays, transforms = [], []
    shown: dict[str, list[str]] = {region: [] for region in regions}
    for group, source in _groups(tiles).items():
        names = {}
        first = tiles[0].sources[group].name
        for region, some in regions.items():
            names[region] = some[0].sources[group].name
            if len(some) > 1:
                names[region] = plain(f"{region}_{group}_merged")
                inside = [tile.sources[group].name for tile in some]
                merged = _merge(inside, [tile.position for tile in some], names[region], first)
                transforms.append(merged)
            shown[region].append(names[region])
        listed, title = list(names.values()), plain(f"all_{group}")
        is_merged = len(listed) > 1 or listed[0] != first
        if len(listed) > 1:
            at = [places[region] for region in names]
            transforms.append(_merge(listed, at, title, listed[0]))
            listed = [title]
        # what is merged is in no table that could name a colour
        alike = replace(source, colored=source.colored and not is_merged)
        displays.append(display(alike, group, listed))
    return displays, transforms, shown


def _merge(
    sources: Sequence[str], positions: Sequence[tuple[int, int]], name: str, like: str
) -> dict[str, Any]:
    grid = {
        "sources": list(sources),
        "positions": [list(position) for position in positions],
        "mergedGridSourceName": name,
        "metadataSource": like,
    }
    return {"mergedGrid": grid}


def _moved(tiles: Sequence[Tile], places: Mapping[str, tuple[int, int]]) -> Grid:
    """Return displays, transformations, and what is shown of every region, each image by itself."""
    regions = _by_region(tiles)
    transforms = []
    for some in regions.values():
        if len(some) > 1:
            at = [tile.position for tile in some]
            transforms.append(_move([_names(tile) for tile in some], at, centre=True))
    shown = {region: [name for t in some for name in _names(t)] for region, some in regions.items()}
    if len(shown) > 1:
        at = [places[region] for region in shown]
        transforms.append(_move(list(shown.values()), at, centre=False))
    displays = []
    for group, source in _groups(tiles).items():
        names = [tile.sources[group].name for tile in tiles if group in tile.sources]
        displays.append(display(source, group, names))
    return displays, transforms, shown


def _names(tile: Tile) -> list[str]:
    return [source.name for source in tile.sources.values()]


def _move(
    nested: Sequence[Sequence[str]], positions: Sequence[tuple[int, int]], *, centre: bool
) -> dict[str, Any]:
    grid = {
        "nestedSources": [list(names) for names in nested],
        "positions": [list(position) for position in positions],
        "centerAtOrigin": centre,
    }
    return {"transformedGrid": grid}


def square(count: int) -> list[tuple[int, int]]:
    """Return places in rows as long as there are rows, column and row.

    Examples
    --------
    >>> square(3)
    [(0, 0), (1, 0), (0, 1)]
    """
    width = max(1, math.ceil(math.sqrt(count)))
    return [(i % width, i // width) for i in range(count)]


def by_origin(
    origins: Sequence[tuple[float, float]], size: tuple[float, float]
) -> list[tuple[int, int]]:
    """Return the places of images in a grid by where they begin, column and row.

    Parameters
    ----------
    origins
        Of each image: x and y.
    size
        How wide and high an image is. Images that begin less than half of it apart are in one
        column or row.

    Examples
    --------
    >>> by_origin([(0, 0), (9.8, 0.1), (0, 10)], (10, 10)), by_origin([(0, 0), (0, 0)], (1, 1))
    ([(0, 0), (1, 0), (0, 1)], [(0, 0), (1, 0)])
    """
    columns = _ranks([x for x, _ in origins], size[0] / 2)
    rows = _ranks([y for _, y in origins], size[1] / 2)
    found = list(zip(columns, rows, strict=True))
    return found if len(set(found)) == len(found) else square(len(origins))


def _ranks(values: Sequence[float], apart: float) -> list[int]:
    """Return which of the distinct values each one is, in their order."""
    ranks: dict[float, int] = {}
    last, rank = -math.inf, -1
    for value in sorted(values):
        if value - last > apart:
            rank += 1
            last = value
        ranks[value] = rank
    return [ranks[value] for value in values]
