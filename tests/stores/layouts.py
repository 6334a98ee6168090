"""Where each version of OME-Zarr keeps things."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from stores.multiscales import (
    Json,
    Multiscale,
    describe_0_1,
    describe_0_3,
    describe_0_4,
    describe_0_6,
)

Version: TypeAlias = Literal["0.1", "0.2", "0.3", "0.4", "0.5", "0.6"]


@dataclass(frozen=True)
class Layout:
    """Where one version of OME-Zarr keeps things.

    Parameters
    ----------
    zarr_format
        Version of Zarr.
    attributes
        Attributes of a group with an OME-Zarr document and a version string.
    describe
        Multiscale object of an image with a name.
    chunk_keys
        ``chunk_key_encoding`` of `zarr.create_array`, or None for Zarr's own.
    axes
        Names of the axes that every image has, or None if that is free.
    hidden_keys
        Keys that zarr-python writes to arrays and that the writers of the time did not.
    label_parts
        What ``image-label`` can have.
    well_indices
        Whether the wells of a plate have ``rowIndex`` and ``columnIndex``.
    """

    zarr_format: Literal[2, 3]
    attributes: Callable[[Json, str], Json]
    describe: Callable[[str, Multiscale], Json]
    chunk_keys: Any = None
    axes: str | None = None
    hidden_keys: tuple[str, ...] = ()
    label_parts: tuple[str, ...] = ("colors", "properties", "source")
    well_indices: bool = True


def _on_each(ome: Json, stated: str) -> Json:
    """Document with the version in each of the objects that carry one, unless they do already."""
    stamp = {"version": stated}
    alone = {"omero", "image-label", "plate", "well"} & ome.keys()
    stamped: Json = {key: {**stamp, **ome[key]} for key in alone}
    if "multiscales" in ome:
        stamped["multiscales"] = [{**stamp, **each} for each in ome["multiscales"]]
    return {**ome, **stamped}


def _below_ome(ome: Json, stated: str) -> Json:
    return {"ome": {"version": stated, **ome}}


_FLAT = {"name": "v2", "separator": "."}
_NESTED = {"name": "v2", "separator": "/"}

LAYOUTS: Mapping[str, Layout] = {
    "0.1": Layout(
        zarr_format=2,
        attributes=_on_each,
        describe=describe_0_1,
        chunk_keys=_FLAT,
        axes="tczyx",
        hidden_keys=("dimension_separator",),
        label_parts=("colors", "source"),
        well_indices=False,
    ),
    "0.2": Layout(
        zarr_format=2,
        attributes=_on_each,
        describe=describe_0_1,
        chunk_keys=_NESTED,
        axes="tczyx",
        well_indices=False,
    ),
    "0.3": Layout(
        zarr_format=2,
        attributes=_on_each,
        describe=describe_0_3,
        chunk_keys=_NESTED,
        well_indices=False,
    ),
    "0.4": Layout(zarr_format=2, attributes=_on_each, describe=describe_0_4, chunk_keys=_NESTED),
    "0.5": Layout(zarr_format=3, attributes=_below_ome, describe=describe_0_4),
    "0.6": Layout(zarr_format=3, attributes=_below_ome, describe=describe_0_6),
}
