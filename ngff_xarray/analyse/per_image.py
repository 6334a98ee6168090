"""`apply` on every image of a plate, a well or a collection: results beside each, or one table."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Unpack

import xarray as xr

from ngff_xarray import image, plate_array
from ngff_xarray.analyse import keeping
from ngff_xarray.analyse.applying import ApplyOptions, prepared
from ngff_xarray.analyse.members import Member, Members
from ngff_xarray.analyse.running import Crew
from ngff_xarray.errors import BlockError, NgffError, SelectionError
from ngff_xarray.progress import progress as shown_progress
from ngff_xarray.text import printable

if TYPE_CHECKING:
    import pandas as pd


def apply_group(
    tree: xr.DataTree,
    func: Callable[..., Any],
    *,
    to: Any = None,
    per: Literal["field", "well"] = "field",
    wells: Iterable[str] | pd.DataFrame | None = None,
    fields: int | Sequence[int] | None = None,
    level: object = 0,
    **options: Unpack[ApplyOptions],
) -> pd.DataFrame | None:
    """Apply a function to every image of a group: labels beside each, or one table of all.

    Images are done several at a time, each in blocks as `apply` has them. Of a call that was
    stopped or killed, images that have their labels already are left as they are when it is made
    again.

    Parameters
    ----------
    tree
        A plate, a well, or a collection of images.
    func
        As `apply` takes it. With ``per="well"`` it gets an array of all fields of a well, with the
        dimension ``field`` first, and returns a DataFrame, or a dict or number that becomes one
        row.
    to
        ``"labels/nuclei"``, a label image of every image, or a new ``.csv`` or ``.parquet`` for the
        table. By default the table is returned only.
    per
        Whether a plate's function gets a field or a whole well at a time.
    wells, fields
        Which of a plate, as `ngff_xarray.analyse.plates.measure_group` takes them.
    level, options
        As `apply` takes them. ``scheduler`` and ``workers`` say who does the images.

    Returns
    -------
    DataFrame or None
        The table, indexed by well and field (well of ``per="well"``, image of a collection) and the
        rows of each. ``attrs["issues"]`` says what was listed and not there.

    Raises
    ------
    BlockError
        If the function fails, with a note that names the image; with ``errors="collect"`` the
        others go on, and a warning says how many blocks failed.
    SelectionError
        If there is no such well, or the function returns an image.
    StoreError
        If one of the images has such labels that this call has not made, without ``replace=True``.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> pixels = xr.DataArray(np.arange(4).reshape(2, 2), dims=("y", "x"))
    >>> tree = xr.DataTree.from_dict({
    ...     "/": xr.Dataset(attrs={"ome": {"well": {"images": [{"path": "0"}]}}}),
    ...     "/0": xr.Dataset(attrs={"ome": {}}),
    ...     "/0/0": pixels.to_dataset(name="image"),
    ... })
    >>> apply_group(tree, lambda block: pd.DataFrame({"mean": [float(block.mean())]}))
             mean
    field
    0     0   1.5
    """
    if per not in ("field", "well"):
        raise SelectionError(f"per: expected 'field' or 'well', found {printable(per, 40)!r}")
    is_labels = isinstance(to, str) and to.startswith("labels/")
    keep = keeping.target(None if is_labels else to, tree, None, by_frame=False)
    members = Members(tree, wells, fields, "well")
    task = _Task(func, to if is_labels else None, level, _alone(options))
    crew = Crew.of(options.get("scheduler"), options.get("workers"))
    collects = options.get("errors") == "collect"
    if per == "well":
        if is_labels:
            raise SelectionError("per='well' makes a table: give per='field' for labels")
        items: Iterator[Any] = _wells(members, level)
        act: Callable[[_Task, Any], _Done] = _of_well
    else:
        items, act = members.all(), _of_member
    order: list[tuple[str, ...]] = []
    found: dict[tuple[str, ...], Any] = {}
    failed: list[BlockError] = []
    with shown_progress("applying", "images", options.get("progress")) as bar:
        for item, done in crew.run(act, task, _counted(items, order, bar), bar):
            if isinstance(done, Exception):
                done.add_note(f"in {printable('/'.join(item.key), 200)}")
                if not (collects and isinstance(done, BlockError)):
                    raise done
                failed.append(done)
                continue
            failed += done.failed
            found[item.key] = done.table
    if failed:
        warnings.warn(
            f"{len(failed)} blocks of {len(found)} images failed; the first: {failed[0]}",
            stacklevel=3,
        )
    if is_labels:
        return None
    names = ("well",) if per == "well" and members.kind == "plate" else members.names
    table = _joined({key: found[key] for key in order if key in found}, names)
    table.attrs["issues"] = members.issues
    keep(table)
    return table


@dataclass(frozen=True)
class _Task:
    """What is done with every image; workers get it pickled."""

    func: Callable[..., Any]
    to: str | None
    level: object
    options: ApplyOptions


@dataclass(frozen=True)
class _Done:
    """What came of an image."""

    table: pd.DataFrame | None
    failed: list[BlockError]


@dataclass(frozen=True)
class _Well:
    """All fields of a well."""

    key: tuple[str, ...]
    array: xr.DataArray


def _alone(options: ApplyOptions) -> ApplyOptions:
    """Return how one image is done: by who does it, alone."""
    alone = options.copy()
    alone.update({"scheduler": "synchronous", "workers": 1, "progress": False})
    return alone


def _counted(items: Iterator[Any], order: list[tuple[str, ...]], bar: Any) -> Iterator[Any]:
    """Yield items, and note which they are in which order: they may be done in another."""
    for item in items:
        bar.more(1)
        order.append(item.key)
        yield item


def _wells(members: Members, level: object) -> Iterator[_Well]:
    if members.kind != "plate":
        raise SelectionError(f"per='well': expected a plate, found a {members.kind}")
    for path in members.well_paths():
        array = plate_array.to_array(
            members.tree, level=level, wells=[path], fields=members.fields, missing="raise"
        )
        yield _Well((path,), array.isel(well=0))


def _of_member(task: _Task, member: Member) -> _Done:
    """Apply the function to an image; labels that this very call has made stay."""
    job = prepared(member.tree, task.func, task.to, level=task.level, **task.options)
    if task.to is not None:
        name = task.to.removeprefix("labels/")
        there = image.label_images(member.tree).get(name)
        made = None if there is None else image.provenance(there).get("call")
        if made is not None and made == job.call() and not job.storing.replace:
            return _Done(None, [])
        job.run(task.to)
        return _Done(None, list(job.failed.values()))
    found = job.run(None)
    if isinstance(found, xr.DataArray):
        raise SelectionError(
            "the function returned an image or labels: give to='labels/NAME' for labels beside "
            "each image, or return a table"
        )
    found.attrs.clear()
    return _Done(found, list(job.failed.values()))


def _of_well(task: _Task, well: _Well) -> _Done:
    """Apply the function to all fields of a well."""
    import pandas as pd

    kwargs = task.options.get("kwargs") or {}
    try:
        found = task.func(well.array.load(), **kwargs)
    except NgffError:
        raise
    except Exception as error:
        message = f"well {well.key[0]}: {type(error).__name__}: {printable(error, 500)}"
        raise BlockError(message, {}) from error
    if isinstance(found, Mapping):
        found = pd.DataFrame([found])
    elif not isinstance(found, pd.DataFrame):
        try:
            found = pd.DataFrame({"value": [float(found)]})
        except (TypeError, ValueError) as error:
            raise BlockError(
                f"well {well.key[0]}: the function returned a {type(found).__name__}, expected a "
                "DataFrame, a dict or a number",
                {},
            ) from error
    return _Done(found, [])


def _joined(found: Mapping[tuple[str, ...], pd.DataFrame], names: Sequence[str]) -> pd.DataFrame:
    """Return one table, which says of which image each row is."""
    import pandas as pd

    if not found:
        return pd.DataFrame()
    keys = list(found)
    single = len(names) == 1
    return pd.concat(
        [found[key] for key in keys],
        keys=[key[0] for key in keys] if single else keys,
        names=list(names),
    )
