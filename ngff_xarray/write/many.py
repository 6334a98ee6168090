"""Many images -> one store: a plate of wells and fields, or a collection of series."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

from ngff_xarray import image, spec, unfinished
from ngff_xarray.errors import NgffError, SelectionError
from ngff_xarray.image import Obj
from ngff_xarray.model import Collection, Fields
from ngff_xarray.progress import progress as shown_progress
from ngff_xarray.spec import hcs
from ngff_xarray.spec.collections import LAYOUT
from ngff_xarray.spec.values import is_relative
from ngff_xarray.store import join
from ngff_xarray.text import printable
from ngff_xarray.write.nodes import write_node
from ngff_xarray.write.preparing import ImageOptions, prepared
from ngff_xarray.write.targets import Begun, Mode, begun
from ngff_xarray.write.writing import Resume, Writing, commit

_TOGETHER = re.compile(r"([A-Za-z]+)([0-9]+)")  # "B3" for "B/3"


def write_plate(
    images: Mapping[Any, Any],
    target: Any,
    *,
    name: str | None = None,
    rows: Sequence[str] | None = None,
    columns: Sequence[str | int] | None = None,
    acquisitions: Mapping[str, int] | None = None,
    ome_xml: str | None = None,
    resume: str | Resume = "",
    mode: Mode = "w-",
    version: str = "0.5",
    progress: bool | None = None,
    wait: float = unfinished.WAIT,
    storage_options: Mapping[str, Any] | None = None,
    **options: Unpack[ImageOptions],
) -> None:
    """Write a plate of images by their well and field.

    Images are written one after another. Those that are given as functions are asked for when it
    is their turn, so that no more than one is in memory.

    Parameters
    ----------
    images
        By well (``"B/3"``, ``"B3"`` or ``("B", 3)``) an image, a list of images for its fields
        ``"0"``, ``"1"`` …, or a dict of images by field; or by well and field (``"B/3/0"``) an
        image. An image is a tree, Dataset or DataArray, or a function without parameters that
        returns one.
    target
        A path, a URL, or a zarr store or group.
    name
        That of the plate.
    rows, columns
        Their names in order, also of those without images. By default those that have images, in
        the order of letters and numbers.
    acquisitions
        By field, the number of the acquisition that it is of.
    ome_xml
        The OME-XML document beside the images.
    resume
        A text for what is written, as `to_zarr` takes it. Images that are whole are left as they
        are then.
    mode
        ``"w"`` replaces what is there, as `to_zarr` does.
    version
        ``"0.4"``, ``"0.5"`` or ``"0.6"``.
    progress
        Whether to show how far it is; by default in notebooks and terminals, after a second.
    wait
        How many seconds to wait for another writer of what is replaced.
    storage_options
        For fsspec, where the target is a URL.
    **options
        How each image is written, as `to_zarr` takes it: ``scale_factors``, ``chunks``, …

    Raises
    ------
    SelectionError
        If keys are no wells, or there are no images.
    StoreError
        If there is something at the target, or it cannot be written.
    UnsupportedError
        If the version cannot say all of it.

    Examples
    --------
    >>> import tempfile, numpy as np, xarray as xr, ngff_xarray
    >>> well = xr.DataArray(np.zeros((8, 8), "u1"), dims=("y", "x"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_plate({"A1": well, "B2": [well, lambda: well + 1]}, f"{folder}/a.ome.zarr")
    ...     plate = xr.open_datatree(f"{folder}/a.ome.zarr").ngff
    ...     list(plate.wells.index), list(plate.well("B/2").ngff.fields)
    (['A/1', 'B/2'], ['0', '1'])
    """
    wells = _by_well(images)
    document = _document(wells, name, rows, columns, acquisitions or {})
    fields = {join(well, path): found for well in wells for path, found in wells[well].items()}
    writing = _checked(fields, version, options)
    writing = replace(writing, has_xml=ome_xml is not None, resume=Resume.of(resume))
    with begun(target, mode, writing, wait, storage_options) as new:
        put = _Put(new, version, options, acquisitions or {})
        with shown_progress("writing", "fields", progress, len(fields)) as bar:
            for well, found in wells.items():
                for path, each in found.items():
                    put.image(join(well, path), each)
                    bar.did()
                    bar.show()
                put.well(well, list(found))
        new.put_xml(ome_xml)
        new.commit(writing.attributes(hcs.parse_plate(document)))


def write_collection(
    images: Mapping[str, Any] | Sequence[Any],
    target: Any,
    *,
    ome_xml: str | None = None,
    resume: str | Resume = "",
    mode: Mode = "w-",
    version: str = "0.5",
    progress: bool | None = None,
    wait: float = unfinished.WAIT,
    storage_options: Mapping[str, Any] | None = None,
    **options: Unpack[ImageOptions],
) -> None:
    """Write several images into one store, as bioformats2raw does with the series of a file.

    Parameters
    ----------
    images
        By name, or a list for the names ``"0"``, ``"1"`` …; each as `write_plate` takes it.
    target
        A path, a URL, or a zarr store or group.
    ome_xml
        The OME-XML document beside them.
    resume, mode, version, progress, wait, storage_options, **options
        As `write_plate` takes them.

    Raises
    ------
    SelectionError
        If names cannot be those of groups, or there are no images.
    StoreError
        If there is something at the target, or it cannot be written.
    UnsupportedError
        If the version cannot say all of it.

    Examples
    --------
    >>> import tempfile, numpy as np, xarray as xr, ngff_xarray
    >>> scan = xr.DataArray(np.zeros((8, 8), "u1"), dims=("y", "x"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_collection({"overview": scan, "detail": scan}, f"{folder}/a.ome.zarr")
    ...     list(xr.open_datatree(f"{folder}/a.ome.zarr").ngff.images)
    ['overview', 'detail']
    """
    named = images if isinstance(images, Mapping) else dict(enumerate(images))
    found = {str(path): _supplier(each, str(path)) for path, each in named.items()}
    if not found:
        raise SelectionError("there are no images: give at least one")
    for path in found:
        if not (is_relative(path) and hcs.NODE_NAME.fullmatch(path)) or path == "OME":
            raise SelectionError(
                f"{printable(path, 80)!r} cannot be the name of an image: take letters, digits, "
                "'-', '_' and '.'"
            )
    writing = _checked(found, version, options)
    writing = replace(writing, has_xml=ome_xml is not None, resume=Resume.of(resume))
    with begun(target, mode, writing, wait, storage_options) as new:
        put = _Put(new, version, options, {})
        with shown_progress("writing", "images", progress, len(found)) as bar:
            for path, each in found.items():
                put.image(path, each)
                bar.did()
                bar.show()
        new.put_xml(ome_xml)
        put.group("OME", Collection(tuple(found), {"series": list(found)}))
        new.commit(writing.attributes(Collection(None, {LAYOUT: 3})))


class _Put:
    """Writes the parts of a store.

    Parameters
    ----------
    new
        The store.
    version
        Of the specification.
    options
        How images are written.
    acquisitions
        By field.
    """

    def __init__(
        self,
        new: Begun,
        version: str,
        options: ImageOptions,
        acquisitions: Mapping[str, int],
    ) -> None:
        self._place, self._writing = new.place, new.writing
        self._version, self._options, self._acquisitions = version, options, acquisitions

    def image(self, path: str, supplied: Callable[[], Obj]) -> None:
        """Write an image."""
        obj, writing = _prepared(supplied(), path, self._version, self._options)
        begun = self._writing
        writing = replace(
            writing,
            progress=False,
            suffix=begun.suffix,
            resume=begun.resume,
            goes_on=begun.goes_on,
        )
        write_node(obj, self._place.store, join(self._place.path, path), writing)

    def well(self, path: str, fields: Sequence[str]) -> None:
        """Write what the group of a well says."""
        known = self._acquisitions
        entries = [
            {"path": each, **({"acquisition": known[each]} if each in known else {})}
            for each in fields
        ]
        self.group(path, Fields(tuple(fields), {"images": entries}))

    def group(self, path: str, content: Any) -> None:
        """Write what a group says."""
        attributes = self._writing.attributes(content)
        commit(self._place.store, join(self._place.path, path), attributes, self._writing)


def _checked(
    images: Mapping[str, Callable[[], Obj]], version: str, options: ImageOptions
) -> Writing:
    """Check what is at hand before anything is written; return how the groups are."""
    for path, each in images.items():
        if isinstance(each, _Given):
            _prepared(each(), path, version, options)
    spec.writer(version)
    return Writing(version, options.get("lossy", False))


def _prepared(obj: Any, path: str, version: str, options: ImageOptions) -> tuple[Obj, Writing]:
    if not isinstance(obj, Obj) or image.group_kind(obj) is not None:
        found = image.kind(obj) if isinstance(obj, Obj) else type(obj).__name__
        raise SelectionError(
            f"{path}: expected an image (an xarray DataTree, Dataset or DataArray), or a function "
            f"that returns one, found {found}"
        )
    try:
        return prepared(obj, version, **options)
    except NgffError as error:
        error.add_note(f"this is the image {path}")
        raise


class _Given:
    """An image that is at hand, as a function that returns it."""

    def __init__(self, obj: Obj) -> None:
        self._obj = obj

    def __call__(self) -> Obj:
        return self._obj


def _supplier(found: Any, path: str) -> Callable[[], Obj]:
    if isinstance(found, Obj):
        return _Given(found)
    if callable(found):
        return found  # type: ignore[no-any-return]  # what it returns is looked at
    raise SelectionError(
        f"{printable(path, 80)}: expected an image (an xarray DataTree, Dataset or DataArray), or "
        f"a function that returns one, found {type(found).__name__}"
    )


# ---- wells and fields --------------------------------------------------------------------------


def _by_well(images: Mapping[Any, Any]) -> dict[str, dict[str, Callable[[], Obj]]]:
    """Return the images by well and field, in the order of wells."""
    wells: dict[str, dict[str, Callable[[], Obj]]] = {}
    for key, found in images.items():
        names = _names(key)
        well = "/".join(names[:2])
        if len(names) == 3:
            fields: Mapping[Any, Any] = {names[2]: found}
        elif isinstance(found, Mapping) and not isinstance(found, Obj):
            fields = found
        elif isinstance(found, list | tuple):
            fields = dict(enumerate(found))
        else:
            fields = {"0": found}
        for path, each in fields.items():
            name = str(path)
            if not hcs.FIELD_NAME.fullmatch(name):
                raise SelectionError(
                    f"{well}: {printable(name, 80)!r} cannot be the name of a field: take letters "
                    "and digits"
                )
            if name in wells.setdefault(well, {}):
                raise SelectionError(f"{well}: the field {name} is there twice")
            wells[well][name] = _supplier(each, f"{well}/{name}")
    if not any(wells.values()):
        raise SelectionError("there are no images: give at least one well")
    return {well: wells[well] for well in sorted(wells, key=_order)}


def _names(key: Any) -> list[str]:
    """Return the row and the column of a key, and the field if it has one."""
    parts = key if isinstance(key, tuple) else (key,)
    names = [name for part in parts for name in str(part).strip("/").split("/")]
    together = _TOGETHER.fullmatch(names[0])
    if together is not None and (len(names) == 1 or (isinstance(key, tuple) and len(key) == 2)):
        names = [*together.groups(), *names[1:]]
    if len(names) not in (2, 3) or not all(map(hcs.FIELD_NAME.fullmatch, names)):
        raise SelectionError(
            f"{printable(key, 80)!r} is no well: expected row and column of letters and digits, as "
            "'B/3', 'B3' or ('B', 3), perhaps with a field, as 'B/3/0'"
        )
    return names


def _order(path: str) -> list[tuple[int, str]]:
    """Return by what paths are sorted: A before B before AA, 2 before 10."""
    parts = path.split("/")
    return [(int(part) if part.isdecimal() else len(part), part) for part in parts]


def _document(
    wells: Mapping[str, Mapping[str, Any]],
    name: str | None,
    rows: Sequence[str] | None,
    columns: Sequence[str | int] | None,
    acquisitions: Mapping[str, int],
) -> dict[str, Any]:
    """Return what the plate says."""
    used = [path.split("/") for path in wells]
    names = {
        "rows": _listed(rows, [row for row, _ in used], "rows"),
        "columns": _listed(columns, [column for _, column in used], "columns"),
    }
    numbers = sorted(set(acquisitions.values()))
    for number in numbers:
        if not (isinstance(number, int) and number >= 0):
            raise SelectionError(
                f"acquisitions: expected numbers of at least 0, found {printable(number, 40)!r}"
            )
    return {
        **({} if name is None else {"name": name}),
        **{key: [{"name": each} for each in found] for key, found in names.items()},
        "wells": [
            {
                "path": f"{row}/{column}",
                "rowIndex": names["rows"].index(row),
                "columnIndex": names["columns"].index(column),
            }
            for row, column in used
        ],
        "field_count": max(map(len, wells.values())),
        **({"acquisitions": [{"id": number} for number in numbers]} if numbers else {}),
    }


def _listed(given: Sequence[Any] | None, used: Sequence[str], key: str) -> list[str]:
    """Return the names of rows or columns."""
    if given is None:
        return sorted(dict.fromkeys(used), key=_order)
    names = [str(each) for each in given]
    missing = [each for each in used if each not in names]
    wrong = [each for each in names if not hcs.FIELD_NAME.fullmatch(each)]
    if missing or wrong or len(set(names)) < len(names):
        found = missing[0] if missing else wrong[0] if wrong else "the same twice"
        what = "lacks" if missing else "has"
        raise SelectionError(f"{key}: {what} {printable(found, 80)!r}: found {names}")
    return names
