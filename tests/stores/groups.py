"""Groups and arrays on disk, and their metadata."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import zarr

from stores.layouts import LAYOUTS, Version
from stores.multiscales import Json
from stores.pixels import Array


def write_group(
    path: Path,
    *,
    version: Version,
    ome: Json | None = None,
    attributes: Json | None = None,
    stated: str | None = None,
) -> Path:
    """Path of a group with an OME-Zarr document, or of a plain group if `ome` is None.

    The version is put where the specification has it: up to 0.4 in each of the objects that
    carry one, unless they do already. Groups between this one and the nearest above it are
    written too.

    Parameters
    ----------
    path
        Folder to write.
    version
        OME-Zarr version.
    ome
        The OME-Zarr document, without its version.
    attributes
        Attributes beside those of OME-Zarr.
    stated
        Version string to write; that of `version` if None.
    """
    layout = LAYOUTS[version]
    own = {} if ome is None else layout.attributes(ome, stated or version)
    _fill_groups(path, version)
    path.mkdir(parents=True, exist_ok=True)
    for name, content in _GROUP_FILES[layout.zarr_format]({**(attributes or {}), **own}).items():
        _dump(path / name, content)
    return path


def write_array(
    path: Path,
    data: Array,
    *,
    version: Version = "0.6",
    names: Sequence[str] | None = None,
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Path:
    """Path of an array, such as the matrix of an affine transformation.

    Groups between it and the nearest above it are written too.

    Parameters
    ----------
    path
        Folder to write.
    data
        Values.
    version
        OME-Zarr version; decides the Zarr version and how chunks are named.
    names
        ``dimension_names`` (Zarr 3 only).
    chunks, shards
        Chunk shape, all of the array if None, and shard shape.
    attributes
        Attributes of the array; in Zarr 2, None leaves out the file ``.zattrs``.
    """
    layout = LAYOUTS[version]
    _fill_groups(path, version)
    array = zarr.create_array(
        path,
        shape=data.shape,
        dtype=data.dtype,
        chunks=data.shape if chunks is None else tuple(chunks),
        shards=shards and tuple(shards),
        zarr_format=layout.zarr_format,
        chunk_key_encoding=layout.chunk_keys,
        dimension_names=names if layout.zarr_format == 3 else None,
        attributes=None if attributes is None else dict(attributes),
    )
    array[...] = data
    if layout.hidden_keys:
        _hide(path / ".zarray", layout.hidden_keys)
    if attributes is None:
        (path / ".zattrs").unlink(missing_ok=True)
    return path


def document(path: Path) -> Json:
    """OME-Zarr document of a group: the content of ``.zattrs``, or ``ome`` in ``zarr.json``."""
    file = _metadata_file(path)
    return _document_in(file, _load(file))


def edit_attributes(path: Path, edit: Callable[[Json], None]) -> None:
    """Rewrite the OME-Zarr document of a group as `edit` changes it in place.

    Consolidated metadata of the group and of the groups above it are renewed.
    """
    file = _metadata_file(path)
    metadata = _load(file)
    edit(_document_in(file, metadata))
    _dump(file, metadata)
    for group in (path, *path.parents):
        if not _is_group(group):
            break
        if _is_consolidated(group):
            consolidate(group)


def consolidate(path: Path) -> None:
    """Consolidate the metadata of a group and all below it."""
    with quiet_consolidation():
        zarr.consolidate_metadata(path)


@contextlib.contextmanager
def quiet_consolidation() -> Iterator[None]:
    """Silence zarr-python's warning that Zarr 3 does not define consolidated metadata."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        yield


_GROUP_FILES: Mapping[int, Callable[[Json], dict[str, Json]]] = {
    2: lambda attributes: {".zgroup": {"zarr_format": 2}, ".zattrs": attributes},
    3: lambda attributes: {
        "zarr.json": {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    },
}


def _fill_groups(path: Path, version: Version) -> None:
    """Write plain groups from the nearest group above `path`, if there is one, down to it."""
    if not _is_group(path.parent) and any(_is_group(above) for above in path.parents):
        write_group(path.parent, version=version)


def _is_group(path: Path) -> bool:
    return (path / "zarr.json").exists() or (path / ".zgroup").exists()


def _metadata_file(path: Path) -> Path:
    zarr_json = path / "zarr.json"
    return zarr_json if zarr_json.exists() else path / ".zattrs"


def _document_in(file: Path, metadata: Json) -> Json:
    if file.name == ".zattrs":
        return metadata
    ome: Json = metadata.setdefault("attributes", {}).setdefault("ome", {})
    return ome


def _is_consolidated(path: Path) -> bool:
    return (path / ".zmetadata").exists() or "consolidated_metadata" in _load(_metadata_file(path))


def _hide(file: Path, keys: Sequence[str]) -> None:
    _dump(file, {key: value for key, value in _load(file).items() if key not in keys})


def _load(file: Path) -> Json:
    content: Json = json.loads(file.read_text(encoding="utf-8"))
    return content


def _dump(file: Path, content: Json) -> None:
    file.write_text(json.dumps(content, indent=2), encoding="utf-8")
