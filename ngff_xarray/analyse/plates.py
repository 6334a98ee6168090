"""Objects of all images of a plate, a well or a collection, measured into one table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import xarray as xr

from ngff_xarray.analyse import keeping
from ngff_xarray.analyse.measuring import Intensities, measure
from ngff_xarray.analyse.members import Member, Members
from ngff_xarray.analyse.sweeping import Block, crew_for, swept, working
from ngff_xarray.errors import NgffError, SelectionError
from ngff_xarray.progress import progress as progress_bar
from ngff_xarray.text import printable

if TYPE_CHECKING:
    import pandas as pd


def measure_group(
    tree: xr.DataTree,
    label: str,
    intensities: Intensities = None,
    *,
    by: Literal["well", "field"] = "well",
    wells: Iterable[str] | pd.DataFrame | None = None,
    fields: int | Sequence[int] | None = None,
    properties: str | Sequence[str] = (),
    level: object = 0,
    block: Block = None,
    to: Any = None,
    scheduler: Any = None,
    workers: int | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Return the size, place, intensities and shape of every object in a group of images.

    Wells are opened several at a time, and images measured several at a time. What is listed and
    not there, or has no such label image, is left out, as ``attrs["issues"]`` says.

    Parameters
    ----------
    tree
        A plate, a well, or a collection of images.
    label
        The name of a label image of each.
    intensities, properties, level, block
        As `measure` takes them; intensities are names of channels or ``"all"``.
    by
        What the index of a plate's table is before the label: ``"well"`` the well (``"B/3"``) and
        the field's name in it; ``"field"`` the field's path (``"B/3/0"``).
    wells
        Of a plate: names (``"B/3"``, also ``"B3"``), or rows of ``plate.ngff.wells``; all by
        default.
    fields
        Of a plate or a well: which of every well, by their place in its list; all by default.
    to
        Where to write the table as well: the path (or URL) of a new file, ``.csv`` or
        ``.parquet``.
    scheduler
        Who measures the images, as `measure` takes it.
    workers
        How many images are measured at a time; by default one a processor.
    progress
        Whether to show a bar; by default after a second, in a notebook or a terminal.

    Returns
    -------
    pandas.DataFrame
        As `measure` returns it. The index is well, field and label of a plate, field and label of
        a well, image and label of a collection.

    Raises
    ------
    SelectionError
        If there is no such well, or none of the images has such a label image.
    NgffError
        As `measure` raises, with a note that names the image.

    Examples
    --------
    >>> import numpy as np
    >>> labels = xr.DataArray(np.array([[0, 4], [4, 9]]), dims=("y", "x"), name="labels")
    >>> tree = xr.DataTree.from_dict({
    ...     "/": xr.Dataset(attrs={"ome": {"well": {"images": [{"path": "0"}]}}}),
    ...     "/0": xr.Dataset(attrs={"ome": {}}),
    ...     "/0/0": labels.astype("u2").to_dataset(name="image"),
    ...     "/0/labels/cells": xr.Dataset(attrs={"ome": {"image-label": {}}}),
    ...     "/0/labels/cells/0": labels.to_dataset(name="labels"),
    ... })
    >>> measure_group(tree, "cells")["pixels"]
    field  label-value
    0      4              2
           9              1
    Name: pixels, dtype: int64
    """
    if not isinstance(label, str):
        raise SelectionError(
            f"label: expected the name of a label image, found {type(label).__name__}"
        )
    if by not in ("well", "field"):
        raise SelectionError(f"by: expected 'well' or 'field', found {by!r}")
    if to == "properties":
        raise SelectionError(
            "to='properties' is for one image: write a table, as with to='nuclei.csv'"
        )
    keep = keeping.target(to, tree, label, by_frame=False)
    run = Members(tree, wells, fields, by)
    task = _Task(label, intensities, {"properties": properties, "level": level, "block": block})
    found = run.labelled(label)
    first = list(itertools.islice(found, 1))  # tells whether other processes can have the images
    crew = crew_for(scheduler, workers, first)
    tables, keys = [], []
    with (
        progress_bar("measuring", "images", progress) as bar,
        working(crew, _measured, task) as (call, threads),
    ):

        def counted() -> Iterator[Member]:
            for one in itertools.chain(first, found):
                bar.more(1)
                keys.append(one.key)
                yield one

        def work(one: Member) -> pd.DataFrame:
            try:
                return call(one)
            except NgffError as error:
                error.add_note(f"while measuring {printable('/'.join(one.key), 200)}")
                raise

        for table in swept(counted(), work, threads, bar.show):
            tables.append(table)
            bar.did()
    if not tables:
        why = f": {run.issues[0]}" if run.issues else ""
        raise SelectionError(f"none of the images has a label image {printable(label, 80)!r}{why}")
    frame = _joined(tables, keys, run)
    keep(frame)
    return frame


@dataclass(frozen=True)
class _Task:
    """What is measured in every image. Workers get it pickled."""

    label: str
    intensities: Intensities
    options: Mapping[str, Any]


def _measured(task: _Task, one: Member) -> pd.DataFrame:
    return measure(
        one.tree,
        task.label,
        task.intensities,
        **task.options,
        scheduler="synchronous",
        progress=False,
    )


def _joined(
    tables: Sequence[pd.DataFrame], keys: Sequence[tuple[str, ...]], run: Members
) -> pd.DataFrame:
    """Return one table of those of all images."""
    import pandas as pd

    attrs = [dict(table.attrs) for table in tables]
    for table in tables:
        table.attrs = {}  # pandas compares them all
    several = len(run.names) > 1
    frame = pd.concat(
        tables, keys=list(keys) if several else [key[0] for key in keys], names=list(run.names)
    )
    units = [each["units"] for each in attrs]
    frame.attrs["units"] = units[0]
    own = [
        f"{'/'.join(key)}: {issue}"
        for key, each in zip(keys, attrs, strict=True)
        for issue in each["issues"]
    ]
    differing = [
        f"{'/'.join(key)}: its units are {each}, those of {'/'.join(keys[0])} are {units[0]}"
        for key, each in zip(keys, units, strict=True)
        if each != units[0]
    ]
    frame.attrs["issues"] = [*run.issues, *own, *differing]
    return frame
