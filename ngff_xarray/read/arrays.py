"""The arrays of an image: its levels, and whether they fit together."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import zarr

from ngff_xarray import geometry, transforms
from ngff_xarray.lazy import channel_count, placement
from ngff_xarray.model import Image, Level
from ngff_xarray.read.opening import Opened
from ngff_xarray.spec import rules
from ngff_xarray.spec.report import Report, shown
from ngff_xarray.store import Document, fetch_array, open_array

MAX_COORDINATES = 2**24  # of all levels of an image: every axis has one for each pixel
MAX_CHANNELS = 2**17

Arrays = list[tuple[Level, "zarr.Array[Any]"]]


async def fetch_arrays(opened: Opened, image: Image) -> list[Document | None]:
    """Return the metadata of the array of each level, None where there is none."""
    return await asyncio.gather(
        *(fetch_array(opened.source, opened.group, level.path) for level in image.multiscale.levels)
    )


def open_arrays(
    opened: Opened, image: Image, documents: list[Document | None], number: int = 0
) -> tuple[Image, Arrays]:
    """Return the image and the array of each level that is there, or raise if they do not fit."""
    report = opened.report
    arrays: Arrays = []
    axes = image.multiscale.axes
    ndim = len(axes)
    missing = []
    for i, (level, document) in enumerate(zip(image.multiscale.levels, documents, strict=True)):
        where = f"multiscales[{number}].datasets[{i}].path"
        if document is None:
            missing.append((where, f"there is no array at {shown(level.path)}"))
            continue
        array = open_array(opened.source, level.path, document)
        if array.ndim != ndim:
            found = (
                f"{shown(level.path)} has {array.ndim} dimensions {array.shape}, "
                f"but there are {ndim} axes"
            )
            report.fail(where, rules.LEVEL_NDIM, found)
        else:
            arrays.append((level, array))
    for where, found in missing:
        if arrays:
            report.error(where, rules.LEVEL_ARRAY, f"{found}; the level is left out")
        else:
            report.fail(where, rules.LEVEL_ARRAY, found)
    report.check()
    placed = geometry.placed([level for level, _ in arrays], [a.shape for _, a in arrays], axes)
    image = replace(image, multiscale=replace(image.multiscale, levels=placed))
    arrays = [(level, array) for level, (_, array) in zip(placed, arrays, strict=True)]
    for level, array in arrays:
        _check_coordinates(image, level, array.shape, report)
    total = sum(sum(array.shape) for _, array in arrays)
    if total > MAX_COORDINATES:
        shapes = shown([array.shape for _, array in arrays])
        found = f"declare axes of {total} pixels together: {shapes}"
        report.fail("multiscales[0].datasets", rules.DATASETS, found)
    report.check()
    return image, arrays


def _check_coordinates(image: Image, level: Level, shape: tuple[int, ...], report: Report) -> None:
    """Refuse geometry that floats cannot hold, and more channels than there can be names."""
    axes = image.multiscale.axes
    where = f"multiscales[0].datasets: {shown(level.path)}"
    scale, translation = transforms.scale_and_translation(placement(level), len(axes))
    for axis, size, step, start in zip(axes, shape, scale, translation, strict=True):
        if axis.type == "channel":
            if size > MAX_CHANNELS:
                found = f"declares {size} channels, more than {MAX_CHANNELS}"
                report.fail(where, rules.DATASETS, found)
            if start:
                found = f"axis {axis.name}: channels have names, no translation {start}"
                report.warn(where, rules.VECTOR, found)
        elif not geometry.are_distinct(size, step, start):
            found = (
                f"axis {axis.name}: scale {step:g} and translation {start:g} cannot tell "
                f"{size} pixels apart"
            )
            report.fail(where, rules.VECTOR, found)


def check_arrays(image: Image, arrays: Arrays, is_label: bool, report: Report) -> None:
    """Note what is odd about arrays that can be read."""
    first = arrays[0][1]
    for i, (_, array) in enumerate(arrays):
        where = f"multiscales[0].datasets[{i}].path"
        _check_separator(array, where, report)
        _, previous = arrays[max(i - 1, 0)]
        if any(np.greater(array.shape, previous.shape)):
            found = f"{array.shape} is larger than the level before it"
            report.error(where, rules.LEVEL_ORDER, found)
        if array.dtype != first.dtype:
            found = f"has dtype {array.dtype}, the first level {first.dtype}"
            report.error(where, rules.LEVEL_DTYPE, found)
    if is_label and first.dtype.kind not in "iu":
        report.error("image-label", rules.LABEL_DTYPE, f"expected integers, found {first.dtype}")
    _check_channels(image, first.shape, report)


def check_names(image: Image, documents: list[Document | None], report: Report) -> None:
    """Note arrays of Zarr v3 whose dimensions are not called as the axes are."""
    names = [axis.extra.get("name", axis.name) for axis in image.multiscale.axes]
    for i, document in enumerate(documents):
        if document is None:
            continue
        where = f"multiscales[0].datasets[{i}].path"
        stored = document.get("dimension_names")
        if stored is None and report.version == "0.5" and document.get("zarr_format") == 3:
            report.error(where, rules.DIMENSION_NAMES, f"has no dimension_names, expected {names}")
        elif stored is not None and stored != names:
            found = f"dimension_names {shown(stored)} differ from the axes {names}, which win"
            report.error(where, rules.DIMENSION_NAMES, found)


def _check_separator(array: zarr.Array[Any], where: str, report: Report) -> None:
    """Note flat chunk keys from 0.2 on."""
    separator = getattr(array.metadata, "dimension_separator", None)
    nested = report.version in ("0.2", "0.3", "0.4")
    if nested and separator == "." and array.ndim > 1:
        found = "chunks are separated by '.', expected '/'"
        report.warn(where, rules.CHUNK_KEYS, found)


def _check_channels(image: Image, shape: tuple[int, ...], report: Report) -> None:
    stored = (image.omero or {}).get("channels")
    size = channel_count(image, shape)
    if isinstance(stored, list) and len(stored) != size:
        found = f"describes {len(stored)} channels, the image has {size}"
        report.warn("omero.channels", rules.OMERO_COUNT, found)
