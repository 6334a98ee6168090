"""Links to web pages that show or check a store, for stores that are on the web."""

from __future__ import annotations

from urllib.parse import quote

from ngff_xarray.errors import StoreError
from ngff_xarray.export.locations import Location, locate
from ngff_xarray.export.places import place
from ngff_xarray.image import Obj
from ngff_xarray.store import Source
from ngff_xarray.text import printable

VIZARR = "https://hms-dbmi.github.io/vizarr/"
VALIDATOR = "https://ome.github.io/ome-ngff-validator/"


def public_url(obj: Obj) -> str:
    """Return the web address of what was opened, as every browser can ask for it.

    Raises
    ------
    StoreError
        If it has none, or one with a password or token, which a link would give away.
    UnsupportedError
        If it was cropped or computed since.

    Examples
    --------
    >>> import ngff_xarray, xarray as xr
    >>> with ngff_xarray.serve(ngff_xarray.sample("cell")) as served:
    ...     public_url(xr.open_datatree(served.url, engine="ngff")) == served.url
    True
    """
    return public_url_of(place(obj)[0])


def public_url_of(source: Source) -> str:
    """Return the web address of a place, as every browser can ask for it; see `public_url`."""
    found = locate(source)
    shown = printable(source.url, 500)
    if found.has_secrets or found.credentials != "none":
        raise StoreError(
            f"{shown}: is read with credentials, which a link would give away: make it public and "
            "open it without them (of S3: storage_options={'anon': True}), or " + _SERVE
        )
    url = found.path if found.kind == "http" else _of_s3(found) if found.kind == "s3" else None
    if url is None:
        raise StoreError(
            f"{shown}: is not on the web, where a page could read it: copy it to a public server "
            "that lets pages of others read (CORS), or " + _SERVE
        )
    return url


_SERVE = (
    "show it to the browsers of this machine: served = tree.ngff.serve(), and the same link of "
    'xr.open_datatree(served.url, engine="ngff")'
)


def _of_s3(found: Location) -> str:
    """Return the address of a public bucket, which is a web server, too."""
    path = quote(found.path)
    if found.endpoint:
        return f"{found.endpoint.rstrip('/')}/{found.bucket}/{path}"
    region = f".{found.region}" if found.region else ""
    if "." in found.bucket:  # of which certificates know nothing
        return f"https://s3{region}.amazonaws.com/{found.bucket}/{path}"
    return f"https://{found.bucket}.s3{region}.amazonaws.com/{path}"


def vizarr_url(obj: Obj) -> str:
    """Return a link that opens a store on the web in vizarr.

    Raises
    ------
    StoreError
        If it is not on the web, or not public.
    """
    return f"{VIZARR}?source={quote(public_url(obj), safe='')}"


def validator_url(obj: Obj) -> str:
    """Return a link that opens a store on the web in the OME-NGFF validator.

    Raises
    ------
    StoreError
        If it is not on the web, or not public.
    """
    return f"{VALIDATOR}?source={quote(public_url(obj), safe='')}"
