"""Volumes in Neuroglancer's precomputed format, with tensorstore: scales as levels."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ngff_xarray import store
from ngff_xarray.converting import axes as axes_
from ngff_xarray.converting.found import Found, Original, Scan, Size
from ngff_xarray.converting.reader import MAX_SHOWN, DeclinedError, Input, Options
from ngff_xarray.converting.stored_array import StoredArray
from ngff_xarray.errors import (
    MetadataError,
    MissingDependencyError,
    StoreNotFoundError,
    UnsupportedError,
)
from ngff_xarray.export.locations import locate
from ngff_xarray.export.tensorstore import kvstore_of
from ngff_xarray.spec.values import is_integer, is_number
from ngff_xarray.storage import Access
from ngff_xarray.store import Source
from ngff_xarray.text import printable
from ngff_xarray.urls import PRECOMPUTED, divided, is_url, is_volume, local_path

NAME = "Neuroglancer precomputed"
EXTRA = "precomputed"
USES: frozenset[str] = frozenset()

_KEY = "info"
_KIND = "neuroglancer_multiscale_volume"
_MAX_BYTES, _MAX_SCALES = 2**24, 64
_MAX_NUMBER = 2**40  # voxels along an axis: more is damage
_AXES = ("x", "y", "z", "c")  # as tensorstore has them
_NAMED = re.compile(r"(/info|\.precomputed|/precomputed)$")
_PIPED = re.compile(r"\|neuroglancer-precomputed:?$")  # as newer versions of Neuroglancer write it
# what it has beside pixels, by what people call it
_BESIDE = {
    "mesh": "meshes",
    "skeletons": "skeletons",
    "segment_properties": "properties of segments",
    "spatial_index": "the spatial index",
}
_PATIENCE = {"max_retries": 5, "initial_delay": "100ms", "max_delay": "5s"}
_CONTEXT = {
    "cache_pool": {"total_bytes_limit": 2**26},
    "http_request_retries": _PATIENCE,
    "s3_request_retries": _PATIENCE,
    "gcs_request_retries": _PATIENCE,
}


def claims(source: Input) -> bool:
    """Tell whether this is a folder with the document of a volume, or a URL that is called so."""
    if source.is_url:
        is_named = _NAMED.search(divided(source.text)[0]) is not None
        is_said = source.text.startswith(PRECOMPUTED) or _PIPED.search(source.text) is not None
        return is_said or is_named
    place = source.path if source.is_file else source.path / _KEY
    if not (source.is_folder or (source.is_file and source.path.name == _KEY)):
        return False
    return is_volume(place)


class _Read:
    """An array of tensorstore that begins at 0 and comes as numpy's."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape, self.dtype = tuple(array.shape), array.dtype.numpy_dtype
        self.chunks = tuple(array.chunk_layout.read_chunk.shape or array.shape)

    def __getitem__(self, box: Any) -> Any:
        return self._array[box].read().result()


def open_scale(spec: str, _: Any) -> Any:
    """Return the array of a scale: x, y, z and channel."""
    import tensorstore as ts

    opened = ts.open(json.loads(spec), read=True, open=True).result()
    return _Read(opened[ts.d[:].translate_to[0]])


def read(source: Input, options: Options) -> Found:
    """Return the image of a volume, or the labels of a segmentation."""
    place, kvstore = _place(source, options)
    document = _document(place, source)
    scales = _scales(document, place)
    try:
        import tensorstore  # noqa: F401  # before anything is opened
    except ImportError as error:
        raise MissingDependencyError("tensorstore", EXTRA, f"reading {source.name}") from error
    count = document["num_channels"]
    kept = [i for i, axis in enumerate(_AXES) if axis != "c" or count > 1]
    axes = [_AXES[i] for i in axes_.order(_AXES) if i in kept]
    order = [i for i in axes_.order(_AXES) if i in kept]
    text = json.dumps(document)  # by which a volume is told from the one that was there before
    levels = [
        StoredArray(open_scale, (_spec(kvstore, scale["key"]), text), order, source.name)
        for scale in scales
    ]
    _check(levels, scales, axes, document, place)
    sizes: dict[str, Size] = {
        axis: (float(size), "nanometer")
        for axis, size in zip("xyz", scales[0]["resolution"], strict=True)
    }
    centres = [_centre(scale) for scale in scales]
    steps = [
        {
            axis: (
                scale["resolution"][i] / sizes[axis][0],
                (centre[i] - centres[0][i]) / sizes[axis][0],
            )
            for i, axis in enumerate("xyz")
        }
        for scale, centre in zip(scales, centres, strict=True)
    ]
    scan = Scan(
        axes,
        levels,
        _name(source),
        sizes,
        dict(zip("xyz", centres[0], strict=True)),
        is_labels=document["type"] == "segmentation",
        dropped=[text for key, text in _BESIDE.items() if document.get(key)],
        steps=steps,
    )
    original = Original("info of Neuroglancer (JSON)", text)
    return Found(NAME, {"": lambda: scan}, original=original)


# ---- where it is -------------------------------------------------------------------------------


def _place(source: Input, options: Options) -> tuple[Source, dict[str, Any]]:
    """Return where the volume is, for this package and for tensorstore."""
    text = local_path(_PIPED.sub("", source.text.removeprefix(PRECOMPUTED)))
    if is_url(text):
        place, query = divided(text)
        place = place.removesuffix(f"/{_KEY}")
        text = place + (f"?{query}" if query else "")
    elif Path(text).name == _KEY and Path(text).is_file():
        text = str(Path(text).parent)
    options_ = options.storage_options or {}
    found = store.open_source(text, access=Access(options_))
    kvstore = kvstore_of(locate(found), headers=_headers(options_), with_secrets=True)
    if kvstore is None:
        raise UnsupportedError(
            f"{source.name}: TensorStore cannot read from there with what is given: it reads "
            "folders, web servers, and S3 and Google's storage with the credentials of the "
            "environment (AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS)"
        )
    return found, kvstore


def _headers(options: Mapping[str, Any]) -> list[str]:
    """Return the headers that a caller gives for fsspec, as tensorstore takes them."""
    client = options.get("client_kwargs") or {}
    given = {**(client.get("headers") or {}), **(options.get("headers") or {})}
    return [f"{name}: {value}" for name, value in given.items()]


def _spec(kvstore: Mapping[str, Any], key: str) -> str:
    return json.dumps(
        {
            "driver": "neuroglancer_precomputed",
            "kvstore": kvstore,
            "scale_metadata": {"key": key},
            "context": _CONTEXT,
        }
    )


def _name(source: Input) -> str:
    """Return what the volume is called: its folder."""
    text = _PIPED.sub("", source.text)
    place = divided(text)[0] if source.is_url else text.rstrip("/")
    return place.removesuffix(f"/{_KEY}").rpartition("/")[2].removesuffix(".precomputed")


# ---- what its document says --------------------------------------------------------------------


def _document(place: Source, source: Input) -> dict[str, Any]:
    """Return the document, looked at."""
    text = store.fetch_bytes(place, _KEY, _MAX_BYTES)
    if text is None:
        if source.text.startswith(PRECOMPUTED):
            raise StoreNotFoundError(f"{source.name}: there is no {_KEY}, as a volume has")
        raise DeclinedError(f"there is no {_KEY}")
    found = store.parse_json(place, _KEY, text)
    if found.get("@type", _KIND) != _KIND or "scales" not in found:
        shown = printable(str(found.get("@type")), 60)
        raise DeclinedError(f"its {_KEY} is none of a volume ({shown})")
    if found.get("type") not in ("image", "segmentation"):
        raise _fault(place, "type", "expected 'image' or 'segmentation'", found.get("type"))
    count = found.get("num_channels")
    if not (is_integer(count, 1) and count < 2**16):
        raise _fault(place, "num_channels", "expected a number", count)
    return found


def _fault(place: Source, where: str, expected: str, found: Any) -> MetadataError:
    shown = printable(json.dumps(found, default=str), 100)
    return store.malformed(place, f"{_KEY}: {where}", f"{expected}, found {shown}")


def _scales(document: Mapping[str, Any], place: Source) -> list[dict[str, Any]]:
    """Return the scales, the finest first."""
    listed = document["scales"]
    if not isinstance(listed, list) or not 0 < len(listed) <= _MAX_SCALES:
        found = len(listed) if isinstance(listed, list) else listed
        raise _fault(place, "scales", f"expected a list of 1 to {_MAX_SCALES}", found)
    keys = []
    for i, scale in enumerate(listed):
        where = f"scales[{i}]"
        if not isinstance(scale, dict):
            raise _fault(place, where, "expected an object", scale)
        key = scale.get("key")
        if not isinstance(key, str) or not key or not _is_below(key):
            raise _fault(place, f"{where}.key", "expected a path below the volume", key)
        keys.append(key)
        if not _are(scale.get("size"), lambda n: is_integer(n, 1) and n < _MAX_NUMBER):
            raise _fault(
                place, f"{where}.size", "expected three numbers of voxels", scale.get("size")
            )
        if not _are(scale.get("resolution"), lambda n: is_number(n) and 1e-50 < n < 1e50):
            text = "expected three sizes in nanometers"
            raise _fault(place, f"{where}.resolution", text, scale.get("resolution"))
        offset = scale.get("voxel_offset", [0, 0, 0])
        if not _are(offset, lambda n: is_integer(n) and abs(n) < _MAX_NUMBER):
            raise _fault(place, f"{where}.voxel_offset", "expected three whole numbers", offset)
    if len(set(keys)) < len(keys):
        raise _fault(place, "scales", "expected different keys", keys)
    return sorted(listed, key=lambda scale: math.prod(scale["resolution"]))


def _is_below(key: str) -> bool:
    """Tell whether a key stays in the volume; nothing is read elsewhere."""
    parts = key.split("/")
    return "\\" not in key and "://" not in key and not {"", ".", ".."} & set(parts)


def _are(value: Any, is_good: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(is_good, value))


def _centre(scale: Mapping[str, Any]) -> list[float]:
    """Return where the first voxel's centre is: Neuroglancer counts from corners.

    Of OME-Zarr it counts from centres, so that both are drawn in the same place
    (https://github.com/google/neuroglancer/issues/440).
    """
    offset = scale.get("voxel_offset", [0, 0, 0])
    return [(at + 0.5) * size for at, size in zip(offset, scale["resolution"], strict=True)]


def _check(
    levels: Sequence[StoredArray],
    scales: Sequence[Mapping[str, Any]],
    axes: Sequence[str],
    document: Mapping[str, Any],
    place: Source,
) -> None:
    """Check that tensorstore opened what the document says."""
    for level, scale in zip(levels, scales, strict=True):
        size = {**dict(zip("xyz", scale["size"], strict=True)), "c": document["num_channels"]}
        if level.shape != tuple(size[axis] for axis in axes):
            text = f"{printable(scale['key'], 100)} opens as {level.shape}"
            raise store.malformed(place, _KEY, printable(text, MAX_SHOWN))
