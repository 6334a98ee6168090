"""Plates: wells in rows and columns, fields in wells."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from stores.groups import consolidate, write_group
from stores.images import LabelSpec, small, write_image
from stores.layouts import LAYOUTS, Version
from stores.multiscales import Json


def write_plate(
    path: Path,
    *,
    version: Version = "0.5",
    rows: Sequence[str] = "AB",
    columns: Sequence[str] = ("1", "2"),
    wells: Sequence[str] | None = None,
    fields: int | Sequence[str] = 2,
    missing: Collection[str] = (),
    acquisitions: Sequence[Json] | None = None,
    labels: Mapping[str, LabelSpec] | None = None,
    image: Mapping[str, Any] = {},
    plate: Mapping[str, Any] = {},
    ome: Json | None = None,
    attributes: Json | None = None,
    stated: str | None = None,
    consolidated: bool = False,
) -> Path:
    """Path of a new plate, whose fields have different pixels.

    Parameters
    ----------
    path
        Folder to write; its name up to the first dot is the name of the plate.
    version
        OME-Zarr version; up to ``"0.3"`` wells have neither ``rowIndex`` nor ``columnIndex``.
    rows, columns
        Names of all rows and columns.
    wells
        Paths of the wells, such as ``"A/1"``; all if None.
    fields
        Number of fields in every well, or their names.
    missing
        Wells (``"A/2"``) and fields (``"A/1/1"``) that are listed and not written.
    acquisitions
        Acquisitions as the specification has them; the fields of a well are dealt to them in
        equal runs.
    labels
        Label images of every field, as of `write_image`.
    image
        Keyword arguments of `write_image` for the fields; if ``axes`` are left out they are c, y,
        x of size 2, 32, 40. There are two levels.
    plate
        Keys to add to, or replace in, the plate object.
    ome, attributes, stated, consolidated
        As of `write_image`, for the group of the plate; `stated` goes for all of it.
    """
    paths = [f"{row}/{column}" for row in rows for column in columns] if wells is None else wells
    names = [str(n) for n in range(fields)] if isinstance(fields, int) else list(fields)
    listed = [_well(well, rows, columns, version) for well in paths]
    described = {
        "name": path.name.partition(".")[0],
        "rows": [{"name": row} for row in rows],
        "columns": [{"name": column} for column in columns],
        "wells": listed,
        "field_count": len(names),
        **({} if acquisitions is None else {"acquisitions": list(acquisitions)}),
        **plate,
    }
    write_group(
        path,
        version=version,
        ome={"plate": described, **(ome or {})},
        attributes=attributes,
        stated=stated,
    )
    images = _images(names, acquisitions)
    for n, well in enumerate(paths):
        if well in missing:
            continue
        write_group(path / well, version=version, ome={"well": {"images": images}}, stated=stated)
        for field, name in enumerate(names):
            if f"{well}/{name}" not in missing:
                keywords = small({"seed": n * len(names) + field, "labels": labels, **image})
                write_image(path / well / name, version=version, stated=stated, **keywords)
    if consolidated:
        consolidate(path)
    return path


def _well(well: str, rows: Sequence[str], columns: Sequence[str], version: Version) -> Json:
    if not LAYOUTS[version].well_indices:
        return {"path": well}
    row, column = PurePosixPath(well).parts
    return {
        "path": well,
        "rowIndex": list(rows).index(row),
        "columnIndex": list(columns).index(column),
    }


def _images(names: Sequence[str], acquisitions: Sequence[Json] | None) -> list[Json]:
    """``images`` of a well."""
    if acquisitions is None:
        return [{"path": name} for name in names]
    return [
        {"path": name, "acquisition": acquisitions[n * len(acquisitions) // len(names)]["id"]}
        for n, name in enumerate(names)
    ]
