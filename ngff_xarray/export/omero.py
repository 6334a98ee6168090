"""OMERO's rendering settings: from its image objects and files to the ``omero`` block, and back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import xarray as xr

from ngff_xarray import image, units
from ngff_xarray.errors import NotOmeError, SelectionError, StoreError, UnsupportedError
from ngff_xarray.export.looks import Look, looks
from ngff_xarray.spec import omero
from ngff_xarray.spec.report import shown
from ngff_xarray.spec.values import is_integer, is_number, parse_color
from ngff_xarray.text import printable

ObjT = TypeVar("ObjT", xr.DataArray, xr.Dataset, xr.DataTree)
Settings = Mapping[str, Any]

VERSION = 2  # of the files that `omero render set` takes
_PLANES = (("z", "defaultZ"), ("t", "defaultT"))
_DRAWN = {"min": "start", "max": "end"}  # in version 1 these were the range that is drawn


def from_omero(wrapper: Any) -> dict[str, Any]:
    """Return how OMERO draws an image, as the ``omero`` block of OME-Zarr says it.

    Parameters
    ----------
    wrapper
        The image as a BlitzGateway gives it (``conn.getObject("Image", 1)``): anything with its
        methods ``getChannels``, ``isGreyscaleRenderingModel``, ``getDefaultZ`` and so on.

    Returns
    -------
    dict
        ``id``, ``name``, ``channels`` and ``rdefs``. What OMERO does not say is left out; the name
        of a lookup table stands as ``lut``.

    Raises
    ------
    NotOmeError
        If it is no such object.
    StoreError
        If OMERO cannot draw the image.

    Examples
    --------
    >>> conn.getObject("Image", 1)  # doctest: +SKIP
    >>> tree = with_rendering(tree, from_omero(conn.getObject("Image", 1)))  # doctest: +SKIP
    """
    if not hasattr(wrapper, "getChannels"):
        raise NotOmeError(
            f"expected an image of a BlitzGateway, found {type(wrapper).__name__}: "
            'conn.getObject("Image", 1)'
        )
    channels = wrapper.getChannels()
    if channels is None:
        raise StoreError("OMERO cannot draw this image now: its pyramid may still be in the making")
    rdefs = {
        "defaultT": _plain(wrapper.getDefaultT()),
        "defaultZ": _plain(wrapper.getDefaultZ()),
        "model": "greyscale" if wrapper.isGreyscaleRenderingModel() else "color",
    }
    return {
        **_said({"id": _plain(wrapper.getId()), "name": _plain(wrapper.getName())}),
        "channels": [_channel(each) for each in channels],
        "rdefs": _said(rdefs),
    }


def _channel(wrapper: Any) -> dict[str, Any]:
    color = wrapper.getColor()
    window = {
        "min": wrapper.getWindowMin(),
        "max": wrapper.getWindowMax(),
        "start": wrapper.getWindowStart(),
        "end": wrapper.getWindowEnd(),
    }
    found = {
        "label": wrapper.getLabel(),
        "color": None if color is None else color.getHtml(),
        "window": _said({key: _plain(value) for key, value in window.items()}) or None,
        "active": wrapper.isActive(),
        "inverted": wrapper.isInverted(),
        "family": wrapper.getFamily(),
        "coefficient": wrapper.getCoefficient(),
        "lut": wrapper.getLut() or None,
    }
    return _said({key: _plain(value) for key, value in found.items()})


def _plain(value: Any) -> Any:
    """Return a value without the type that OMERO wraps around some."""
    for name in ("getValue", "val"):
        inner = getattr(value, name, None)
        if inner is not None:
            return _plain(inner() if callable(inner) else inner)
    return value


def _said(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if value is not None}


def omero_pixel_size(wrapper: Any) -> dict[str, str]:
    """Return the pixel size of an image of OMERO by axis, as ``convert(pixel_size=…)`` takes it.

    Parameters
    ----------
    wrapper
        As of `from_omero`.

    Returns
    -------
    dict
        Such as ``{"x": "0.325 micrometer"}``; axes whose size OMERO does not know are left out,
        and a unit that OME-Zarr does not have is none.
    """
    found = {}
    for axis in "zyx":
        length = getattr(wrapper, f"getPixelSize{axis.upper()}")(units=True)
        if length is not None:
            unit = units.unit_name(str(length.getUnit()).lower())
            unit = unit or units.unit_name(str(length.getSymbol()))
            found[axis] = f"{_plain(length)} {unit or ''}".strip()
    return found


def with_rendering(obj: ObjT, settings: Any) -> ObjT:
    """Return an image that is drawn as OMERO draws it: names, colours, windows, defaults.

    Parameters
    ----------
    obj
        An image.
    settings
        What to draw it like: an image of a BlitzGateway; an ``omero`` block, as `from_omero`
        returns it; or what ``omero render info`` and ``export`` write, as a mapping or as the
        path of a YAML or JSON file. What the latter leaves out stays as it is.

    Raises
    ------
    SelectionError
        If it is of other channels.
    NotOmeError
        If it is none of these.

    Examples
    --------
    >>> import ngff_xarray
    >>> tree = xr.open_datatree(ngff_xarray.sample("cell"))
    >>> settings = {"channels": {1: {"label": "phase", "color": "00FF00"}}, "version": 2}
    >>> with_rendering(tree, settings).ngff.channels[0].name
    'phase'
    """
    if image.kind(obj) != "image":
        raise NotOmeError(f"this is of the kind {image.kind(obj)!r}: expected an image")
    count = len(image.channels(obj))
    given = _read(settings)
    block = _described(obj)
    if isinstance(given["channels"], Mapping):
        block = _changed(block, given)
    elif len(given["channels"]) != count:
        raise SelectionError(
            f"the settings are of {len(given['channels'])} channels, the image has {count}: select "
            "the same ones first: tree.ngff.sel(c=[…])"
        )
    else:
        block = {**block, **given}
    return _with_block(obj, block, omero.names(block, count))


def _read(settings: Any) -> Settings:
    if isinstance(settings, str | os.PathLike):
        settings = _load(Path(settings))
    elif hasattr(settings, "getChannels"):
        settings = from_omero(settings)
    channels = settings.get("channels") if isinstance(settings, Mapping) else None
    entries = list(channels.values()) if isinstance(channels, Mapping) else channels
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise NotOmeError(
            "expected an image of a BlitzGateway, an omero block or settings for 'omero render', "
            f"with channels; found {shown(settings)}"
        )
    return dict(settings)


def _load(path: Path) -> Any:
    import yaml  # dask needs it anyway, and JSON is YAML

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"{printable(path, 500)}: cannot be read: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise NotOmeError(f"{printable(path, 500)}: is no YAML: {printable(error, 500)}") from error


def _described(obj: xr.DataArray | xr.Dataset | xr.DataTree) -> dict[str, Any]:
    """Return the ``omero`` block with an entry for every channel that an image has."""
    known = image.ome(obj).get("omero") or {}
    names = [channel.name for channel in image.channels(obj)]
    block = omero.select(known, names)
    stored = block.get("channels")
    entries = [dict(entry) if isinstance(entry, dict) else {} for entry in stored or ()]
    entries += [{} for _ in names[len(entries) :]]
    return {**block, "channels": entries[: len(names)]}


def _changed(block: dict[str, Any], given: Settings) -> dict[str, Any]:
    """Return a block with what the settings for ``omero render`` say in place."""
    version = _version(given)
    channels = list(block["channels"])
    for number, entry in given["channels"].items():
        index = int(number) - 1 if is_integer(number) or str(number).isdecimal() else -1
        if not 0 <= index < len(channels):
            raise SelectionError(
                f"the settings are of a channel {printable(number, 80)}: the image has the "
                f"channels 1 to {len(channels)}"
            )
        channels[index] = _entry(channels[index], entry, version)
    rdefs = dict(block.get("rdefs") or {})
    if "greyscale" in given:
        rdefs["model"] = "greyscale" if given["greyscale"] else "color"
    for key, name in _PLANES:
        if is_integer(given.get(key), 1):
            rdefs[name] = given[key] - 1
    return {**block, "channels": channels, **({"rdefs": rdefs} if rdefs else {})}


def _version(given: Settings) -> int:
    """Return the version of settings for ``omero render``, as that finds it."""
    stated = given.get("version")
    if is_integer(stated, 1) and stated <= VERSION:
        return int(stated)
    keys = {key for entry in given["channels"].values() for key in entry}
    ranges, extremes = bool(keys & {"start", "end"}), bool(keys & {"min", "max"})
    if stated is not None or (ranges and extremes):
        raise NotOmeError(
            f"the settings are of version {shown(stated)}: expected the number 1 or {VERSION}"
        )
    return 1 if extremes else VERSION


def _entry(known: Mapping[str, Any], given: Mapping[str, Any], version: int) -> dict[str, Any]:
    window = dict(known.get("window") or {})
    for key in ("min", "max", "start", "end"):
        if is_number(given.get(key)):
            window[_DRAWN.get(key, key) if version == 1 else key] = given[key]
    plain = {key: given[key] for key in ("label", "active") if given.get(key) is not None}
    color = str(given.get("color") or "")
    looks = {"lut": color} if color.endswith(".lut") else {"color": color} if color else {}
    rest = {key: value for key, value in known.items() if key != "lut" or not color}
    return {**rest, **plain, **looks, **({"window": window} if window else {})}


def _with_block(obj: ObjT, block: dict[str, Any], names: Sequence[str]) -> ObjT:
    """Return an image with another ``omero`` block, and its channels of these names."""
    ome = {**image.ome(obj), "omero": block}
    if isinstance(obj, xr.DataTree):
        made = obj.copy(deep=False)
        made.attrs = {**obj.attrs, "ome": ome}
        for node, name in image.level_nodes(made):
            node.dataset = _with_names(node.to_dataset(inherit=False), ome, names, name)
        return made
    if isinstance(obj, xr.DataArray):
        named = obj.assign_coords(_named(obj, names))
        named.attrs = {**obj.attrs, "ome": ome}
        return named
    return _with_names(obj, ome, names, str(image.levels(obj)[0].name))


def _with_names(dataset: xr.Dataset, ome: Any, names: Sequence[str], name: str) -> xr.Dataset:
    made = dataset.assign_coords(_named(dataset[name], names))
    made.encoding = dict(dataset.encoding)
    made[name].attrs = {**dataset[name].attrs, "ome": ome}
    return made


def _named(array: xr.DataArray, names: Sequence[str]) -> dict[str, xr.Variable]:
    dim = image.channel_dim(array)
    if dim is None:
        return {}
    said = array[dim].attrs if dim in array.coords else {}
    return {dim: xr.Variable(dim, list(names), said)}


def to_omero(
    obj: xr.DataArray | xr.Dataset | xr.DataTree,
    path: str | os.PathLike[str] | None = None,
    *,
    lossy: bool = False,
) -> dict[str, Any]:
    """Return how an image is drawn, as ``omero render set`` takes it; written to a file if asked.

    ``tree.ngff.to_omero("settings.json")``, and then ``omero render set Image:1 settings.json``.

    Parameters
    ----------
    obj
        An image.
    path
        Of a JSON file to write; one that is there is replaced.
    lossy
        Whether what such a file cannot say may be left out: that channels are inverted. See
        `active_channels` for these.

    Returns
    -------
    dict
        ``channels`` by number from 1 on, ``greyscale``, ``z`` and ``t`` from 1 on, ``version``.
        What the image does not say is left out: OMERO keeps its own.

    Raises
    ------
    UnsupportedError
        If a channel is inverted.

    Examples
    --------
    >>> import ngff_xarray
    >>> tree = xr.open_datatree(ngff_xarray.sample("cell"))
    >>> to_omero(tree)["channels"][1]["label"]
    'phase'
    """
    block, found = _described(obj), looks(obj)
    inverted = [look.channel.name for look in found if look.is_inverted]
    if inverted and not lossy:
        raise UnsupportedError(
            f"channel {printable(inverted[0], 80)!r} is inverted, which files for 'omero render' "
            "cannot say: pass lossy=True, or image.set_active_channels(**active_channels(tree))"
        )
    channels = {
        number: _settings(look, entry)
        for number, (look, entry) in enumerate(zip(found, block["channels"], strict=True), 1)
    }
    settings = {"version": VERSION, "channels": channels, **dict(_defaults(obj, block))}
    if path is not None:
        try:
            Path(path).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise StoreError(f"{printable(path, 500)}: cannot be written: {error}") from error
    return settings


def _settings(look: Look, entry: Mapping[str, Any]) -> dict[str, Any]:
    window = entry.get("window") if look.limits is not None else None
    found: dict[str, Any] = {}
    if isinstance(entry.get("label"), str) and entry["label"]:
        found["label"] = entry["label"]
    if parse_color(entry.get("color")) is not None:
        found["color"] = _html(look)
    if look.limits is not None:
        found["start"], found["end"] = look.limits
    if isinstance(window, dict) and is_number(window.get("min")) and is_number(window.get("max")):
        found["min"], found["max"] = float(window["min"]), float(window["max"])
    return {**found, "active": look.channel.active}


def _html(look: Look) -> str:
    return "{:02X}{:02X}{:02X}".format(*look.color)


def _defaults(
    obj: xr.DataArray | xr.Dataset | xr.DataTree, block: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Yield the default plane and the model, where the block says them and the image has them."""
    array = image.levels(obj)[0]
    for axis in image.axes(array):
        index = omero.default_index(dict(block), axis.type, axis.name)
        if index is not None and 0 <= index < array.sizes[axis.name]:
            yield ("t" if axis.type == "time" else "z"), index + 1
    rdefs = block.get("rdefs")
    model = rdefs.get("model") if isinstance(rdefs, dict) else None
    if model in ("greyscale", "color"):
        yield "greyscale", model == "greyscale"


def active_channels(obj: xr.DataArray | xr.Dataset | xr.DataTree) -> dict[str, list[Any]]:
    """Return how channels are drawn, as the arguments of OMERO's ``setActiveChannels``.

    ``image.setActiveChannels(**active_channels(tree))``, or, for channels that are switched off
    too, ``image.set_active_channels(**active_channels(tree), set_inactive=True)``; then
    ``image.saveDefaults()``.

    Parameters
    ----------
    obj
        An image.

    Returns
    -------
    dict
        ``channels``, numbers from 1 on, those that are off negative; and one for each of them of
        ``windows`` (``[None, None]`` where nothing is said), ``colors`` (or the name of a lookup
        table, or None) and ``invertMaps``.

    Examples
    --------
    >>> import ngff_xarray
    >>> tree = xr.open_datatree(ngff_xarray.sample("cell"))
    >>> active_channels(tree)["channels"], active_channels(tree)["invertMaps"]
    ([1], [False])
    """
    entries = _described(obj)["channels"]
    found = looks(obj)
    numbers = enumerate(found, 1)
    return {
        "channels": [number if look.channel.active else -number for number, look in numbers],
        "windows": [list(look.limits or (None, None)) for look in found],
        "colors": [_color(look, entry) for look, entry in zip(found, entries, strict=True)],
        "invertMaps": [look.is_inverted for look in found],
    }


def _color(look: Look, entry: Mapping[str, Any]) -> str | None:
    lut = entry.get("lut")
    if isinstance(lut, str) and lut.endswith(".lut"):
        return lut
    return None if parse_color(entry.get("color")) is None else _html(look)
