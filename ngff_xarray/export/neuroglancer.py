"""The state of Neuroglancer that shows an image, and where it reads the pixels."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import image, overlay, render
from ngff_xarray.channels import Channels
from ngff_xarray.errors import MissingDependencyError, NotOmeError, StoreError, UnsupportedError
from ngff_xarray.export import documents
from ngff_xarray.export.looks import Look, looks, upright
from ngff_xarray.export.places import place
from ngff_xarray.export.serving import Served
from ngff_xarray.image import Obj
from ngff_xarray.model import Window
from ngff_xarray.overlay import Names
from ngff_xarray.spec import omero
from ngff_xarray.store import Source
from ngff_xarray.text import printable

if TYPE_CHECKING:
    from neuroglancer import Viewer

Json = dict[str, Any]

DEMO = "https://neuroglancer-demo.appspot.com/"
_SYMBOLS = {"meter": "m", "second": "s"}
_DTYPES = {"uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32"}
_PANEL = (900, 600)  # pixels of the screen that the image is to fill
_ANCHORS = 17  # colours of a colormap, between which the shader draws straight lines
_SAMPLED = 2**22  # pixels of the plane from which a window is found
# the package forgets a viewer that nobody holds, though its page is open
_kept: dict[Neuroglancer, list[Viewer]] = {}
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*")


@dataclass(frozen=True, eq=False)
class Neuroglancer:
    """An image as Neuroglancer shows it.

    Parameters
    ----------
    state
        The state, as JSON has it.
    served
        The store on a port of this machine, None where it is read from where it is.

    Examples
    --------
    >>> Neuroglancer({"layers": []}).link()
    'https://neuroglancer-demo.appspot.com/#!%7B%22layers%22:%5B%5D%7D'
    """

    state: Json
    served: Served | None = None

    def link(self, base: str = DEMO) -> str:
        """Return a link that opens it in the Neuroglancer of a web page.

        What this machine serves is seen by browsers of this machine alone, while it is served.
        """
        text = json.dumps(self.state, separators=(",", ":"))
        return f"{base.rstrip('/')}/#!{quote(text, safe=_UNQUOTED)}"

    def show(self) -> Viewer:
        """Return the viewer of the package neuroglancer, which works offline: a link to it.

        Raises
        ------
        MissingDependencyError
            If that is not installed.
        """
        try:
            import neuroglancer
        except ImportError as error:
            raise MissingDependencyError(
                "neuroglancer", "neuroglancer", "a viewer on this machine"
            ) from error
        viewer = neuroglancer.Viewer()
        viewer.set_state(neuroglancer.ViewerState(self.state))
        _kept.setdefault(self, []).append(viewer)
        return viewer

    def close(self) -> None:
        """Serve the store no longer, and show it in no viewer."""
        _kept.pop(self, None)
        if self.served is not None:
            self.served.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _repr_html_(self) -> str:
        link = html.escape(self.link(), quote=True)
        return f'<a href="{link}" target="_blank" rel="noreferrer">Neuroglancer</a>'


_UNQUOTED = "~@#$&()*!+=:;,.?/'"


def to_neuroglancer(
    obj: xr.DataTree,
    *,
    channels: Channels = None,
    labels: Names = True,
    serve: bool | None = None,
) -> Neuroglancer:
    """Return an image for Neuroglancer: its channels in their colours, and its labels.

    ``tree.ngff.to_neuroglancer().show()``. It opens in the middle of the image. A window that the
    store does not state is found from the coarsest level, which alone is read here.

    Parameters
    ----------
    obj
        An image or label image, as it was opened.
    channels
        Which, and how to draw them, as in `rgb`; by default all, as the store says.
    labels
        Label images by name; True for all, None for none.
    serve
        Whether the browser gets the pixels from this machine, by `serve`, or from where they are.
        By default only an ``https://`` store of version 0.4 or 0.5 is read from where it is: its
        server must let pages of others read (CORS).

    Raises
    ------
    UnsupportedError
        If it was cropped or computed, is rotated, or has pixels of a dtype that Neuroglancer does
        not draw.
    StoreError
        If it is to be read from where no browser can read.

    Examples
    --------
    >>> import xarray as xr, ngff_xarray
    >>> tree = xr.open_datatree(ngff_xarray.sample("cell"))
    >>> with to_neuroglancer(tree) as shown:
    ...     [layer["type"] for layer in shown.state["layers"]]
    ['image', 'segmentation']
    """
    kind = image.kind(obj)
    if kind not in ("image", "labels"):
        raise NotOmeError(f"this is a {kind}, no image: take one of its images: .ngff.images")
    source, group = place(obj)
    known = image.label_images(obj)
    shown = {name: known[name] for name in overlay.label_names(obj, labels)}
    for each in (obj, *shown.values()):
        _check(each)
    seen = [] if kind == "labels" else [_windowed(obj, look) for look in looks(obj, channels)]
    said = documents.documents(obj, group.zarr_format)
    served = None if _is_read_in_place(obj, source, serve) else Served(source, documents=said)
    url = f"{source.address}/{source.path}".rstrip("/") if served is None else served.url
    scheme = f"zarr{group.zarr_format}"
    if kind == "labels":
        layers = [_segmentation(image.name(obj) or "labels", obj, f"{url}/|{scheme}:")]
    else:
        layers = [_layer(obj, look, f"{url}/|{scheme}:") for look in seen]
    layers += [
        _segmentation(path, label, f"{url}/labels/{quote(path)}/|{scheme}:")
        for path, label in shown.items()
    ]
    return Neuroglancer({**_view(obj), "layers": _named_apart(layers)}, served)


def _check(obj: Obj) -> None:
    array = image.levels(obj)[0]
    if array.dtype.name not in _DTYPES or (image.kind(obj) == "labels" and array.dtype.kind == "f"):
        raise UnsupportedError(
            f"Neuroglancer does not draw {array.dtype} as {image.kind(obj)}: convert it and write "
            'that: tree.ngff.map(lambda array: array.astype("float32")).ngff.to_zarr(path)'
        )
    odd = [str(dim) for dim in array.dims if not _NAME.fullmatch(str(dim))]
    if odd:
        raise UnsupportedError(f"Neuroglancer takes no axis of the name {odd[0]!r}: rename it")


def _is_read_in_place(obj: Obj, source: Source, serve: bool | None) -> bool:
    is_known = image.version(obj) in ("0.4", "0.5")
    is_public = source.address.startswith(("https://", "http://")) and "?" not in source.address
    if serve is False and not (is_known and is_public):
        what = "is not on the web" if is_known else f"is of version {image.version(obj)}"
        raise StoreError(
            f"{printable(source.url, 500)}: {what}, so Neuroglancer cannot read it from where it "
            "is: leave out serve=False"
        )
    is_secure = source.address.startswith("https://")
    return is_known and is_public and (is_secure if serve is None else not serve)


# ---- where to look -------------------------------------------------------------------------------


def _view(obj: Obj) -> Json:
    """Return the dimensions, and the place in the middle of the image."""
    array = image.levels(obj)[0]
    dims = upright(array)
    space = [axis.name for axis in image.axes(array) if axis.type == "space" and axis.name in dims]
    down, right = dims[-2:]
    depth = [dim for dim in space if dim not in (down, right)][-1:]
    scale, start = (
        dict(zip(map(str, array.dims), v, strict=True)) for v in documents.geometry(array)
    )
    position = [start[dim] / scale[dim] + _first(obj, array, dim) for dim in dims]
    displayed = [right, down, *depth]
    unit = min(scale[dim] for dim in displayed)
    extents = {dim: array.sizes[dim] * scale[dim] / unit for dim in displayed}
    is_deep = any(array.sizes[dim] > 1 for dim in depth)
    return {
        "dimensions": {dim: [scale[dim], _symbol(array, dim)] for dim in dims},
        "displayDimensions": displayed,
        "position": position,
        "crossSectionScale": max(extents[right] / _PANEL[0], extents[down] / _PANEL[1], 1e-6)
        * (2 if is_deep else 1),
        "projectionScale": 1.5 * max(extents.values()),
        "layout": "4panel" if is_deep else "xy",
        "showAxisLines": False,
        "crossSectionBackgroundColor": "#000000",
    }


def _first(obj: Obj, array: xr.DataArray, dim: str) -> float:
    """Return the pixel to begin at along an axis: where the store says, or the middle of space."""
    kind = next(axis.type for axis in image.axes(array) if axis.name == dim)
    count = array.sizes[dim]
    index = omero.default_index(image.ome(obj).get("omero"), kind, dim)
    if index is not None and 0 <= index < count:
        return float(index)
    return (count - 1) / 2 if dim in upright(array)[-2:] else count // 2 if kind == "space" else 0


def _symbol(array: xr.DataArray, dim: str) -> str:
    axis = next(axis for axis in image.axes(array) if axis.name == dim)
    return _SYMBOLS.get(documents.base(axis.unit, axis.type)[0] or "", "")


# ---- layers --------------------------------------------------------------------------------------


def _named_apart(layers: list[Json]) -> list[Json]:
    """Return the layers, no two of one name."""
    taken: dict[str, int] = {}
    for layer in layers:
        name = layer["name"]
        taken[name] = taken.get(name, 0) + 1
        if taken[name] > 1:
            layer["name"] = f"{name} {taken[name]}"
    return layers


def _source(obj: Obj, url: str) -> Json:
    """Return a source; its channels are the layer's own dimension, whatever their axis says."""
    array = image.levels(obj)[0]
    dim = image.channel_dim(array)
    scale, _ = documents.geometry(array)
    named = {
        f"{name}'" if name == dim else str(name): [step, _symbol(array, str(name))]
        for name, step in zip(array.dims, scale, strict=True)
    }
    return {"url": url, "transform": {"outputDimensions": named}}


def _layer(obj: Obj, look: Look, url: str) -> Json:
    """Return the layer of a channel: Neuroglancer's shaders take several from one chunk alone."""
    layer = {
        "type": "image",
        "name": printable(look.channel.name),
        "source": _source(obj, url),
        "shader": _shader(look),
        "blend": "additive",
        "opacity": 1,
        "visible": look.channel.active,
    }
    dim = image.channel_dim(image.levels(obj)[0])
    if dim is not None:
        layer |= {"localDimensions": {f"{dim}'": [1, ""]}, "localPosition": [look.index]}
    return layer


def _shader(look: Look) -> str:
    """Return how a channel is drawn, with controls for its window and colour.

    Examples
    --------
    >>> from ngff_xarray.model import Channel, Window
    >>> print(_shader(Look(None, Channel("DAPI", window=Window(0, 255)), (0, 0, 255))))
    #uicontrol invlerp window(range=[0.0, 255.0])
    #uicontrol vec3 color color(default="#0000ff")
    void main() {
      emitRGB(color * window());
    }
    """
    low, high = look.limits or (0.0, 1.0)
    controls = [f"#uicontrol invlerp window(range=[{low!r}, {high!r}])"]
    value = "window()" if look.channel.gamma == 1 else f"pow(window(), {look.channel.gamma:f})"
    if look.channel.colormap is None:
        controls.append(f'#uicontrol vec3 color color(default="{render.hex_color(look.color)}")')
        drawn = f"color * (1.0 - {value})" if look.is_inverted else f"color * {value}"
    else:
        controls += _mapped(look.table())
        drawn = f"mapped({value})"
    return "\n".join([*controls, "void main() {", f"  emitRGB({drawn});", "}"])


def _mapped(table: NDArray[np.uint8]) -> list[str]:
    """Return a colormap as a function of the shader."""
    anchors = table[np.linspace(0, len(table) - 1, _ANCHORS).round().astype(int)] / 255
    listed = ", ".join("vec3({:.4f}, {:.4f}, {:.4f})".format(*color) for color in anchors)
    return [
        f"const vec3 anchors[{_ANCHORS}] = vec3[{_ANCHORS}]({listed});",
        "vec3 mapped(float value) {",
        f"  float at = value * {_ANCHORS - 1}.0;",
        f"  int i = min(int(at), {_ANCHORS - 2});",
        "  return mix(anchors[i], anchors[i + 1], at - float(i));",
        "}",
    ]


def _windowed(obj: Obj, look: Look) -> Look:
    """Return a channel with a window, found from the coarsest level where none is stated."""
    if look.limits is not None:
        return look
    array = image.levels(obj)[-1]
    dim = image.channel_dim(array)
    if dim is not None:
        array = array.isel({dim: look.index or 0})
    plane = image.plane_dims(array)
    at: Mapping[Any, Any] = {d: n // 2 for d, n in array.sizes.items() if d not in plane}
    found = array.isel(at)
    step = max(1, int((found.size / _SAMPLED) ** 0.5))
    low, high = render.auto_window(found[::step, ::step].values)
    return replace(look, channel=replace(look.channel, window=Window(low, high)))


def _segmentation(path: str, obj: Obj, url: str) -> Json:
    layer = {
        "type": "segmentation",
        "name": printable(path),
        "source": _source(obj, url),
        "selectedAlpha": 0.5,
    }
    colors = image.label_colors(obj)
    if colors:
        shown = {
            str(value): render.hex_color(rgba[:3]) for value, rgba in colors.items() if value > 0
        }
        layer["segmentColors"] = shown
    return layer
