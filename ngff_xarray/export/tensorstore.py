"""Levels as TensorStore opens them: where the store is, without this package in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ngff_xarray import image, ops
from ngff_xarray.errors import MissingDependencyError, UnsupportedError
from ngff_xarray.export.locations import Location, locate
from ngff_xarray.export.places import place
from ngff_xarray.image import Obj
from ngff_xarray.text import printable

if TYPE_CHECKING:
    import tensorstore as ts

Json = dict[str, Any]


def tensorstore_spec(obj: Obj, level: object = 0) -> Json:
    """Return the spec that TensorStore opens a level by: ``tensorstore.open(spec)``.

    Parameters
    ----------
    obj
        An image or label image, as it was opened: from a directory, a zip file, the web or S3.
    level
        Its number, or a pixel size (``"1 µm"``).

    Returns
    -------
    dict
        Driver (``zarr3``, or ``zarr`` for Zarr v2) and key-value store, as JSON. It holds no
        secrets: credentials are those of the environment.

    Raises
    ------
    UnsupportedError
        If the image was cropped or computed, or TensorStore cannot read from where it is.
    SelectionError
        If there is no such level.

    Examples
    --------
    >>> import xarray as xr, ngff_xarray
    >>> tree = xr.open_datatree(ngff_xarray.sample("cell"))
    >>> spec = tensorstore_spec(tree, level=1)
    >>> spec["driver"], spec["kvstore"]["driver"], spec["kvstore"]["path"][-16:]
    ('zarr3', 'file', '/cell.ome.zarr/1')
    """
    source, group = place(obj)
    found = locate(source.child(_path(obj, level)))
    kvstore = kvstore_of(found)
    if kvstore is None:
        raise UnsupportedError(
            f"{printable(source.url, 500)}: TensorStore cannot read from there: serve it, and read "
            'that: served = tree.ngff.serve(); xr.open_datatree(served.url, engine="ngff")'
        )
    return {"driver": "zarr3" if group.zarr_format == 3 else "zarr", "kvstore": kvstore}


def to_tensorstore(obj: Obj, level: object = 0) -> ts.TensorStore:
    """Return a level opened by TensorStore for reading, its dimensions named as the axes.

    ``tree.ngff.to_tensorstore()[0, :512, :512].read().result()``. See `tensorstore_spec`.

    Raises
    ------
    MissingDependencyError
        If TensorStore is not installed.
    """
    try:
        import tensorstore as ts
    except ImportError as error:
        raise MissingDependencyError(
            "tensorstore", "tensorstore", ".ngff.to_tensorstore()"
        ) from error
    opened = ts.open(tensorstore_spec(obj, level), read=True).result()
    return opened[ts.d[:].label[[axis.name for axis in image.axes(obj)]]]


def _path(obj: Obj, level: object) -> str:
    """Return the path of a level below its image."""
    return image.level_paths(obj)[ops.which_level(image.levels(obj), level)]


def kvstore_of(
    found: Location, *, headers: Sequence[str] = (), with_secrets: bool = False
) -> Json | None:
    """Return a place as TensorStore's key-value stores are written, None where there is none.

    Parameters
    ----------
    found
        The place.
    headers
        Of requests to a web server.
    with_secrets
        Whether it may hold a token that is in a URL; nobody must see it then.
    """
    if found.kind == "file":
        return {"driver": "file", "path": found.path}
    if found.kind == "http" and (with_secrets or not found.has_secrets):
        more = {"headers": list(headers)} if headers else {}
        return {"driver": "http", "base_url": found.path, **more}
    if found.kind == "s3" and found.credentials != "given":
        return _of_s3(found)
    if found.kind == "gs":
        return {"driver": "gcs", "bucket": found.bucket, "path": found.path}
    if found.kind == "zip" and found.base is not None and (base := kvstore_of(found.base)):
        return {"driver": "zip", "base": base, "path": found.path}
    return None


def _of_s3(found: Location) -> Json:
    kind = "anonymous" if found.credentials == "none" else "default"
    kvstore: Json = {
        "driver": "s3",
        "bucket": found.bucket,
        "path": found.path,
        "aws_credentials": {"type": kind},
    }
    if found.endpoint:
        kvstore["endpoint"] = found.endpoint
    if found.region:
        kvstore["aws_region"] = found.region
    return kvstore
