"""Documents -> arrays of zarr."""

from __future__ import annotations

import json
from typing import Any

import zarr
from zarr.storage import StorePath

from ngff_xarray.storage.bounded import bound
from ngff_xarray.store.places import Document, Source, reason
from ngff_xarray.store.reading import malformed

ParsedArrays = dict[str, Any]
"""What zarr made of metadata documents, by their text: of a plate most arrays have the same."""


def open_array(
    source: Source, path: str, document: Document, parsed: ParsedArrays | None = None
) -> zarr.Array[Any]:
    """Return a zarr array from metadata at hand: nothing is read.

    Parameters
    ----------
    source, path
        Where it is.
    document
        Its metadata.
    parsed
        What was made of others is used again, and this is added.

    Raises
    ------
    MetadataError
        If zarr cannot make an array of the document.
    """
    place = source.child(path)
    store_path = StorePath(place.store, place.path)
    text = "" if parsed is None else json.dumps(document)
    if parsed is not None and text in parsed:
        return _bounded(zarr.AsyncArray(parsed[text], store_path))
    if not isinstance(document.get("attributes"), dict | None):  # older zarr takes anything
        raise malformed(source, path, "attributes: expected a JSON object")
    try:
        array = _bounded(zarr.AsyncArray.from_dict(store_path, document))
    except Exception as error:  # zarr's parsers raise whatever their Python code does
        raise malformed(source, path, f"is no array that zarr can open: {reason(error)}") from error
    if parsed is not None:
        parsed[text] = array.metadata
    return array


def _bounded(array: zarr.AsyncArray[Any]) -> zarr.Array[Any]:
    bound(array)
    return zarr.Array(array)
