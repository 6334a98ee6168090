"""A folder, or a pattern of paths: files that are planes, stacks or images of one collection."""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ngff_xarray import image
from ngff_xarray.converting import naming, precomputed, webknossos
from ngff_xarray.converting.bioio import ENDINGS
from ngff_xarray.converting.building import variable
from ngff_xarray.converting.files_array import FilesArray
from ngff_xarray.converting.found import Found, Layout, Scan
from ngff_xarray.converting.reader import DeclinedError, Input, Options
from ngff_xarray.converting.selecting import selected
from ngff_xarray.converting.stores import is_zarr
from ngff_xarray.errors import NgffError, SelectionError, StoreError, StoreNotFoundError
from ngff_xarray.model import Channel
from ngff_xarray.text import printable

NAME = "a folder of files"
EXTRA = ""
USES = frozenset({"series", "axes", "pattern", "path"})

_ORDER = "tczyx"
_SIGNS = re.compile(r"[*?\[{]")
_PLANES = ("t", "c", "z")

Names = dict[str, str]


def claims(source: Input) -> bool:
    """Tell whether this is a folder, or a pattern of paths."""
    if not source.text or source.is_url or source.is_file:
        return False
    if source.is_folder:
        known = webknossos.claims(source) or precomputed.claims(source)
        return not (known or is_zarr(source) or source.ends(".n5"))
    return _SIGNS.search(source.text) is not None


def read(source: Input, options: Options) -> Found:
    """Return the images that the files are, by what their names say."""
    root, files, pattern = _listed(source, options)
    if pattern is None:
        return _each(source, files, options)
    names = {}
    for path in files:
        relative = path.relative_to(root).as_posix()
        match = pattern.fullmatch(relative) or pattern.fullmatch(path.name)
        if match is not None:
            names[path] = {k: v for k, v in match.groupdict().items() if v is not None}
    if not names:
        example = printable(files[0].relative_to(root).as_posix(), 100)
        raise SelectionError(
            f"{source.name}: none of {len(files)} files is called as the pattern says; one is "
            f"{example!r}"
        )
    return _arranged(source, names, len(files) - len(names), options)


def _listed(source: Input, options: Options) -> tuple[Path, list[Path], re.Pattern[str] | None]:
    """Return the folder, the files in it, and what their names are like."""
    text, pattern = source.text, options.pattern
    if source.is_folder:
        root = source.path
        below = "**/*" if pattern is None or "/" in pattern or "(?P<" in pattern else "*"
        found = [path for path in root.glob(below) if path.is_file()]
    else:
        last = "{" in text and pattern is None
        known = glob.glob(naming.glob_of(text), recursive=True)  # noqa: PTH207  # absolute, too
        found = [Path(path) for path in known if Path(path).is_file()]
        head = _SIGNS.split(text)[0]
        root = Path(head[: head.rfind("/") + 1])
        pattern = text[len(root.as_posix().rstrip("/")) + 1 :] if last else pattern
    files = [path for path in found if not _is_left_out(path, root)]
    if not files:
        raise StoreNotFoundError(f"{source.name}: there are no such files")
    files.sort(key=lambda path: naming.natural(path.as_posix()))
    return root, files, None if pattern is None else naming.pattern_of(pattern)


def _is_left_out(path: Path, root: Path) -> bool:
    """Tell whether a file is hidden, or a part of a store: that may be what is being written."""
    parts = path.relative_to(root).parts
    stores = any(part.lower().endswith(".zarr") for part in parts[:-1])
    return stores or any(part.startswith(".") for part in parts)


# ---- every file an image -----------------------------------------------------------------------


def _each(source: Input, files: Sequence[Path], options: Options) -> Found:
    """Return the files as images of a collection; those that nobody reads are named."""
    from ngff_xarray.converting.readers import ANYTHING, claiming, find

    images: dict[str, Callable[[], Any]] = {}
    dropped, known = [], set()
    told = replace(options, series=None)
    for path in files:
        if str(path) in known:
            continue
        given = Input.of(path)
        if not any(name not in ANYTHING or given.ends(*ENDINGS) for name, _ in claiming(given)):
            dropped.append(f"{printable(path.name, 100)}: no reader claims it")
            continue
        try:
            _, found = find(given, told)
        except NgffError as error:
            dropped.append(f"{printable(path.name, 100)}: {printable(error, 200)}")
            if not isinstance(error, DeclinedError) and options.missing == "raise":
                raise
            continue
        known |= set(found.files)
        stem = naming.node_name(given.stem)
        for below, supply in found.images.items():
            name = stem if len(found.images) == 1 else f"{stem}_{below.replace('/', '_')}"
            images[_free(name, images)] = supply
    if not images:
        raise DeclinedError(f"holds {len(files)} files, none of which a reader claims")
    described = dict(enumerate(images.values()))
    if options.series not in (None, "all"):
        named, layout = selected(described, dict(enumerate(images)), options.series)
        return Found(NAME, named, layout, dropped=dropped)
    return Found(NAME, images, "collection", dropped=dropped)


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """Return a name, with a number behind it if it is taken."""
    numbered = (name if i == 1 else f"{name}_{i}" for i in itertools.count(1))
    return next(each for each in numbered if each not in taken and each != "OME")


# ---- files that belong together ----------------------------------------------------------------


def _arranged(source: Input, names: Mapping[Path, Names], others: int, options: Options) -> Found:
    """Return the images that files are planes or stacks of."""
    by_path: dict[str, dict[Path, Names]] = {}
    for path, said in names.items():
        by_path.setdefault(naming.path_of(said), {})[path] = said
    described = {
        path: partial(_scan, source, path, below, options) for path, below in by_path.items()
    }
    dropped = [f"{others} files that are called otherwise"] if others else []
    layout: Layout = "image" if set(described) == {""} else "collection"
    if any(naming.well_of(said) for said in names.values()):
        layout = "plate"
    if options.series is not None and layout == "collection":
        ordered = dict(enumerate(described.values()))
        images, layout = selected(ordered, dict(enumerate(described)), options.series)
        return Found(NAME, images, layout, dropped=dropped)
    name = source.path.name if source.is_folder else None
    return Found(NAME, described, layout, name=name, dropped=dropped)


def _scan(source: Input, path: str, names: Mapping[Path, Names], options: Options) -> Scan:
    """Return the image of which files are parts."""
    from ngff_xarray.converting.readers import find

    first = next(iter(names))
    reader, found = find(Input.of(first), _plain(options))
    inside = _only(found, first)
    sample = _pixels(inside)
    outer = [axis for axis in _PLANES if any(axis in said for said in names.values())]
    double = [axis for axis in outer if axis in sample.dims]
    if double:
        raise SelectionError(
            f"{printable(first, 500)}: has an axis {double[0]} of its own, and its name says one: "
            f"the axes in the file are {', '.join(map(str, sample.dims))}; give axes= for them"
        )
    values = {axis: naming.ordered(said.get(axis, "") for said in names.values()) for axis in outer}
    files = _placed(source, path, names, values, options)
    axes = [axis for axis in _ORDER if axis in (*outer, *sample.dims)]
    axes += [str(dim) for dim in sample.dims if dim not in axes]
    if not isinstance(inside, Scan):
        inside = Scan(axes, [])
    pixels = FilesArray(files, outer, axes, sample, reader, _plain(options))
    channels = inside.channels
    if "c" in outer:
        colors = inside.channels[0].color if len(inside.channels) == 1 else None
        channels = [Channel(name or str(i), colors) for i, name in enumerate(values["c"])]
    return replace(
        inside,
        axes=axes,
        levels=[pixels],
        name=path.replace("/", " ") if path else _name(source),
        channels=channels,
    )


def _name(source: Input) -> str | None:
    return source.path.name if source.is_folder else None


def _plain(options: Options) -> Options:
    """Return what is said of a single file."""
    return Options(
        axes=options.axes,
        path=options.path,
        missing=options.missing,
        storage_options=options.storage_options,
    )


def _only(found: Found, path: Path) -> Any:
    if len(found.images) != 1:
        raise SelectionError(
            f"{printable(path, 500)}: holds {len(found.images)} images: a file whose name says "
            "where it belongs is to hold one"
        )
    return next(iter(found.images.values()))()


def _pixels(inside: Any) -> xr.Variable:
    if isinstance(inside, Scan):
        return variable(inside, inside.levels[0])
    return image.levels(inside)[0].variable


def variable_of(path: str, reader: str, options: Options) -> xr.Variable:
    """Return the pixels of a file that is a part of an image."""
    from ngff_xarray.converting.readers import find

    _, found = find(Input.of(path), options, reader)
    return _pixels(_only(found, Path(path)))


def _placed(
    source: Input,
    path: str,
    names: Mapping[Path, Names],
    values: Mapping[str, Sequence[str]],
    options: Options,
) -> Any:
    """Return the path of the file at each place."""
    shape = [len(found) for found in values.values()]
    files = np.full(shape, "", dtype=object)
    for file, said in names.items():
        at = tuple(found.index(said.get(axis, "")) for axis, found in values.items())
        if files[at]:
            raise SelectionError(
                f"{printable(file, 500)}: stands where {printable(files[at], 500)} does: the "
                "pattern leaves out what they differ in"
            )
        files[at] = str(file)
    missing = np.argwhere(files == "")
    if len(missing) and options.missing == "raise":
        where = ", ".join(
            f"{axis} {found[i]}"
            for (axis, found), i in zip(values.items(), missing[0], strict=True)
        )
        raise StoreError(
            f"{source.name}: {path or 'the image'}: there are {len(missing)} files missing of "
            f"{files.size}, the first at {where}; give missing='fill' for zeros"
        )
    return files.astype(np.str_)
