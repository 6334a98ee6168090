"""WEBKNOSSOS datasets: layers of zarr arrays here or streamed, their mags as levels.

Voxel n of the dataset has its centre at n voxel sizes, as in the OME-Zarr metadata that WEBKNOSSOS
writes; a pixel of a coarser mag in the middle of the voxels that it is made of, which these do not
say.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ngff_xarray import store
from ngff_xarray.converting import axes as axes_
from ngff_xarray.converting.found import Found, Original, Scan
from ngff_xarray.converting.linked import affine_to
from ngff_xarray.converting.reader import MAX_SHOWN, DeclinedError, Input, Options
from ngff_xarray.converting.selecting import selected
from ngff_xarray.converting.turned import Turned
from ngff_xarray.converting.webknossos_said import Dataset, Layer, Mag, parse
from ngff_xarray.errors import DeniedError, Issue, StoreError, UnsupportedError
from ngff_xarray.model import Channel, Window
from ngff_xarray.spec.values import is_integer, is_number
from ngff_xarray.storage import Access
from ngff_xarray.store import Group, Source, ZarrFormat
from ngff_xarray.text import printable
from ngff_xarray.urls import DATASOURCE as KEY
from ngff_xarray.urls import divided

NAME = "WEBKNOSSOS"
EXTRA = ""
USES = frozenset({"series"})

_MAX_BYTES = 2**24  # of the document
_FORMATS: Mapping[str, ZarrFormat] = {"zarr": 2, "zarr3": 3}
# as WEBKNOSSOS gives them: streamed datasets and annotations, and the API of a datastore
_STREAMED = re.compile(r"/data/(v\d+/)?(annotations/)?(zarr[^/]*|datasets)/[^/]+")
_AXES = {2: "xy", 3: "xyz", 4: "cxyz"}  # of arrays that do not name them
_KEPT = ("largestSegmentId", "mappings", "defaultViewConfiguration")


def claims(source: Input) -> bool:
    """Tell whether this is a folder with the document of a dataset, or where one is streamed."""
    if source.is_url:
        place = divided(source.text)[0]
        return place.endswith(f"/{KEY}") or _STREAMED.search(place) is not None
    if source.is_file:
        return source.path.name == KEY
    return source.is_folder and (source.path / KEY).is_file()


def read(source: Input, options: Options) -> Found:
    """Return the layers of a dataset: images of color, and segmentations as their labels."""
    place = store.open_source(_folder(source), access=Access(options.storage_options or {}))
    text = _text(place, source)
    if text is None:
        raise DeclinedError(f"there is no {KEY}")
    document = store.parse_json(place, KEY, text)
    dataset = parse(document, partial(_fault, place))
    readable = [layer for layer in dataset.layers if layer.format in _FORMATS]
    if not readable:
        raise _unreadable(source.name, dataset.layers)
    scanned = partial(_scanned, place, dataset)
    labels = [layer for layer in readable if layer.is_labels]
    images = [layer for layer in readable if not layer.is_labels]
    shown = [*images, *labels] if options.series is not None or not images else images

    def supplier(layer: Layer, is_first: bool) -> Callable[[], Scan]:
        return lambda: scanned(layer, labels if is_first and not layer.is_labels else [])

    numbered = {
        number: supplier(layer, number == 0 or options.series is not None)
        for number, layer in enumerate(shown)
    }
    names = {number: layer.name for number, layer in enumerate(shown)}
    _check_wanted(source.name, options.series, dataset.layers)
    found, layout = selected(numbered, names, options.series)
    others = [layer for layer in dataset.layers if layer.format not in _FORMATS]
    return Found(
        "WEBKNOSSOS",
        found,
        layout,
        Original("datasource-properties.json of WEBKNOSSOS", json.dumps(document)),
        dropped=[f"the layer {printable(each.name, 40)} ({each.format})" for each in others],
    )


def _folder(source: Input) -> str:
    """Return the path or URL of the dataset: that of its document may be given."""
    if not source.is_url:
        return str(source.path.parent if source.is_file else source.path)
    place, query = divided(source.text)
    return place.removesuffix(f"/{KEY}") + (f"?{query}" if query else "")


def _text(place: Source, source: Input) -> bytes | None:
    """Return the document; where a layer is streamed, what the server says instead is no fault."""
    try:
        return store.fetch_bytes(place, KEY, _MAX_BYTES)
    except DeniedError:
        raise
    except StoreError as error:
        if is_layer(source):
            raise DeclinedError(str(error)) from error
        raise


def _fault(place: Source, where: str, message: str) -> Any:
    return store.malformed(place, f"{KEY}: {where}", message)


def _unreadable(name: str, layers: Sequence[Layer]) -> UnsupportedError:
    formats = ", ".join(f"{layer.name} is {layer.format}" for layer in layers[:10])
    return UnsupportedError(
        f"{name}: only layers of Zarr can be read, and {printable(formats, 300)}: convert the "
        "dataset with the package webknossos (pip install webknossos): webknossos copy-dataset "
        "--data-format zarr3 SOURCE TARGET"
    )


def _check_wanted(name: str, series: int | str | None, layers: Sequence[Layer]) -> None:
    """Refuse a layer that is asked for by its name, and not of Zarr."""
    wanted = [each for each in layers if each.name == series and each.format not in _FORMATS]
    if wanted:
        raise _unreadable(name, wanted)


# ---- a layer -----------------------------------------------------------------------------------


def _scanned(place: Source, dataset: Dataset, layer: Layer, labels: Sequence[Layer]) -> Scan:
    """Return a layer, with others as its labels."""
    found = _scan(place, dataset, layer)
    read = {each.name: _scan(place, dataset, each) for each in labels}
    dropped = [*found.dropped, *(text for each in read.values() for text in each.dropped)]
    issues = [*found.issues, *(issue for each in read.values() for issue in each.issues)]
    return replace(found, labels=read, dropped=dropped, issues=issues)


def _scan(place: Source, dataset: Dataset, layer: Layer) -> Scan:
    arrays = store.run(_fetched(place, layer))
    both = list(zip(arrays, layer.mags, strict=True))
    stored = [_axes(array, mag, layer, place) for array, mag in both]
    issues = _check(arrays, stored, layer, place)
    names = stored[0]
    boxes = [_box(array, names, mag, layer, place) for array, mag in both]
    is_flat = layer.is_labels and "c" in names and len(boxes[0][names.index("c")]) == 1
    order = [i for i in axes_.order(names) if not (is_flat and names[i] == "c")]
    axes = [names[i] for i in order]
    centres = [
        {
            axis: (part.start + 0.5) * mag.factors[axis] - 0.5
            for axis, part in zip(names, box, strict=True)
            if axis in mag.factors
        }
        for mag, box in zip(layer.mags, boxes, strict=True)
    ]
    finest, first = layer.mags[0].factors, centres[0]
    sizes = {axis: dataset.sizes.get(axis, (1.0, None)) for axis in first}
    kept = _KEPT if layer.is_labels else ()
    scan = Scan(
        axes,
        [Turned(array, box, order) for array, box in zip(arrays, boxes, strict=True)],
        layer.name,
        {axis: (n * finest[axis], unit) for axis, (n, unit) in sizes.items() if dataset.sizes},
        {axis: at * sizes[axis][0] for axis, at in first.items()},
        () if layer.is_labels else _channels(layer, axes, boxes[0], names),
        issues,
        _dropped(layer),
        layer.is_labels,
        {key: layer.said[key] for key in kept if key in layer.said},
        steps=[
            {
                axis: (mag.factors[axis] / finest[axis], (at - first[axis]) / finest[axis])
                for axis, at in centre.items()
            }
            for mag, centre in zip(layer.mags, centres, strict=True)
        ],
    )
    return _moved(scan, layer, dataset)


async def _fetched(place: Source, layer: Layer) -> list[zarr.Array[Any]]:
    """Return the arrays of the mags, finest first."""
    group = Group(_FORMATS[layer.format], {})

    async def fetched(mag: Mag) -> zarr.Array[Any]:
        tried = [mag.path] if mag.path else _paths(layer, mag)
        for path in tried:
            document = await store.fetch_array(place, group, path)
            if document is not None:
                return store.open_array(place, path, document)
        where = " or ".join(printable(path, 100) for path in tried)
        raise StoreError(
            f"{printable(place.url, MAX_SHOWN)}: there is no array of {layer.format} at {where}, "
            f"which is to be a mag of the layer {printable(layer.name, 40)}"
        )

    found = await asyncio.gather(*map(fetched, layer.mags), return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return [each for each in found if not isinstance(each, BaseException)]


def _paths(layer: Layer, mag: Mag) -> list[str]:
    """Return where the array of a mag is that has no path: by its short or long name."""
    factors = list(mag.factors.values())
    long = "-".join(map(str, factors))
    names = [str(factors[0]), long] if len(set(factors)) == 1 else [long]
    return [f"{layer.name}/{name}" for name in names]


def _axes(array: zarr.Array[Any], mag: Mag, layer: Layer, place: Source) -> list[str]:
    """Return the names of the axes of an array, as it or the dataset says them."""
    said = getattr(array.metadata, "dimension_names", None)
    names = [str(name).lower() for name in said] if said and None not in said else []
    if not names and mag.order:
        more = layer.said.get("additionalAxes") or []
        order = {**{each["name"]: each.get("index") for each in more}, **mag.order}
        known = [name for name in order if is_integer(order[name])]
        names = sorted(known, key=lambda name: order[name])
    names = names or list(_AXES.get(array.ndim, ""))
    names = ["c" if name == "channel" else name for name in names]
    if len(names) == array.ndim and len(set(names)) == array.ndim and {"x", "y"} <= set(names):
        return names
    raise StoreError(
        f"{printable(place.url, MAX_SHOWN)}: {printable(array.path, 200)} is an array of "
        f"{array.shape}, whose axes are not known: expected c, x, y and z, found "
        f"{printable(', '.join(names), 100) or 'no names'}"
    )


def _check(
    arrays: Sequence[zarr.Array[Any]],
    stored: Sequence[Sequence[str]],
    layer: Layer,
    place: Source,
) -> list[Issue]:
    """Refuse mags that do not fit each other; return in what they are not what was said."""
    url, name = printable(place.url, MAX_SHOWN), printable(layer.name, 40)
    dtypes = list(dict.fromkeys(array.dtype.name for array in arrays))
    if len(dtypes) > 1 or any(list(names) != list(stored[0]) for names in stored):
        found = ", ".join(f"{array.path} ({array.dtype})" for array in arrays[:10])
        raise StoreError(
            f"{url}: the mags of the layer {name} are not of one dtype and one order of axes: "
            f"{printable(found, 300)}"
        )
    kinds, expected = ("iu", "labels") if layer.is_labels else ("biuf", "an image")
    if arrays[0].dtype.kind not in kinds:
        raise UnsupportedError(f"{url}: the layer {name} holds {dtypes[0]}, expected {expected}")
    if layer.dtype in ("", dtypes[0]):
        return []
    message = f"{name} is said to hold {printable(layer.dtype, 40)}, its arrays hold {dtypes[0]}"
    return [Issue("elementClass", message)]


def _box(
    array: zarr.Array[Any], names: Sequence[str], mag: Mag, layer: Layer, place: Source
) -> list[range]:
    """Return what of the axes of an array the layer is."""
    found = []
    for name, size in zip(names, array.shape, strict=True):
        wanted = layer.box.get(name, range(size))
        factor = mag.factors.get(name, 1)
        part = range(wanted.start // factor, min(-(-wanted.stop // factor), size))
        if name == "c" and mag.channel is not None:
            part = range(mag.channel, min(mag.channel + 1, size))
        if not part:
            raise StoreError(
                f"{printable(place.url, MAX_SHOWN)}: {printable(array.path, 200)} has {size} "
                f"pixels along {printable(name, 40)}, the bounding box of the layer begins at "
                f"{part.start}"
            )
        found.append(part)
    return found


def _starts(names: Sequence[str], box: Sequence[range]) -> dict[str, int]:
    return {name: part.start for name, part in zip(names, box, strict=True)}


def _channels(
    layer: Layer, axes: Sequence[str], box: Sequence[range], stored: Sequence[str]
) -> list[Channel]:
    """Return the channels in the layer's colour; three of uint24 are red, green and blue."""
    count = len(box[stored.index("c")]) if "c" in axes else 1
    if layer.said.get("elementClass") == "uint24" and count == 3:
        return []
    said = layer.value("color", list)
    color = None
    if said is not None and len(said) == 3 and all(is_number(n) and 0 <= n <= 255 for n in said):
        color = (round(said[0]), round(said[1]), round(said[2]))
    ends = layer.value("intensityRange", list)
    window = None
    if ends is not None and len(ends) == 2 and all(map(is_number, ends)) and ends[0] != ends[1]:
        window = Window(float(ends[0]), float(ends[1]))
    active = not layer.value("isDisabled", bool)
    inverted = bool(layer.value("isInverted", bool))
    names = [layer.name] if count == 1 else [f"{layer.name} {i}" for i in range(count)]
    return [Channel(name, color, window, active, inverted=inverted) for name in names]


def _dropped(layer: Layer) -> list[str]:
    attached = layer.said.get("attachments")
    kinds = [kind for kind, each in attached.items() if each] if isinstance(attached, dict) else []
    name = printable(layer.name, 40)
    return [f"{printable(kind, 40)} of the layer {name}" for kind in kinds[:20]]


# ---- where it lies in the dataset ----------------------------------------------------------------


def _moved(scan: Scan, layer: Layer, dataset: Dataset) -> Scan:
    """Return a layer where its transformations place it, as far as coordinates can say that."""
    if layer.is_bent:
        text = f"the layer {printable(layer.name, 40)} is bent into place by a thin plate spline"
        issue = Issue("coordinateTransformations", f"{text}: it lies where it was before")
        return replace(scan, issues=[*scan.issues, issue], dropped=[*scan.dropped, f"how {text}"])
    if layer.affine is None:
        return scan
    voxel = np.array([dataset.sizes.get(axis, (1.0, None))[0] for axis in "xyz"])
    matrix = layer.affine[:3].copy()
    matrix[:, :3] = matrix[:, :3] * voxel[:, np.newaxis] / voxel
    matrix[:, 3] *= voxel
    steps = np.diag(matrix)
    if np.array_equal(matrix[:, :3], np.diag(steps)) and all(steps > 0) and scan.sizes:
        return _shifted(scan, matrix)
    return replace(scan, ome=affine_to("dataset", matrix, scan.axes, scan.sizes, "layer"))


def _shifted(scan: Scan, matrix: NDArray[np.float64]) -> Scan:
    """Return a layer that is scaled and shifted along its axes."""
    place = {axis: (matrix[i, i], matrix[i, 3]) for i, axis in enumerate("xyz")}
    sizes = {
        axis: (size * float(place[axis][0]), unit) for axis, (size, unit) in scan.sizes.items()
    }
    origins = {
        axis: float(at * place[axis][0] + place[axis][1]) for axis, at in scan.origins.items()
    }
    return replace(scan, sizes=sizes, origins=origins)


def is_layer(source: Input) -> bool:
    """Tell whether a URL may be that of a layer that WEBKNOSSOS streams, which is OME-Zarr."""
    return source.is_url and _STREAMED.search(divided(source.text)[0]) is not None
