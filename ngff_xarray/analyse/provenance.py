"""What made a result: the function, its parameters, versions and the date; in its metadata."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from ngff_xarray.errors import BlockError
from ngff_xarray.image import PROVENANCE
from ngff_xarray.text import printable

_LONGEST = 200  # letters of a parameter that JSON does not have
_FAILED = 1000  # blocks that are listed
_PACKAGES = (
    "ngff-xarray",
    "xarray",
    "numpy",
    "scipy",
    "scikit-image",
    "cellpose",
    "stardist",
    "torch",
)


def made(
    func: Callable[..., Any],
    kwargs: Mapping[str, Any],
    settings: Mapping[str, Any],
    failed: Mapping[int, BlockError],
    call: str | None,
) -> dict[str, Any]:
    """Return attributes that say how a result was made.

    Parameters
    ----------
    func, kwargs
        What was called, and with which parameters.
    settings
        How it was applied.
    failed
        The blocks of which it failed.
    call
        What tells the call from others.
    """
    inner, given = _unwrapped(func)
    said: dict[str, Any] = {
        "function": _name(inner),
        "parameters": {key: _plain(value) for key, value in {**given, **kwargs}.items()},
        "settings": {key: _plain(value) for key, value in settings.items() if value is not None},
        **({"call": call} if call is not None else {}),
        "versions": _versions(inner),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if failed:
        said["failed"] = [
            {"region": {d: [s.start, s.stop] for d, s in error.region.items()}, "error": str(error)}
            for _, error in sorted(failed.items())[:_FAILED]
        ]
    return {PROVENANCE: said}


def _unwrapped(func: Any) -> tuple[Any, dict[str, Any]]:
    """Return the function inside of functools.partial, and what that gives it."""
    given: dict[str, Any] = {}
    while hasattr(func, "func") and hasattr(func, "keywords"):
        given = {**func.keywords, **given}
        if func.args:
            given = {"args": list(func.args), **given}
        func = func.func
    return func, given


def _name(func: Any) -> str:
    name = getattr(func, "__qualname__", None) or type(func).__qualname__
    module = getattr(func, "__module__", None) or type(func).__module__
    return f"{module}.{name}"


def _plain(value: Any) -> Any:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return printable(repr(value), _LONGEST)
    return value


def _versions(func: Any) -> dict[str, str]:
    """Return the versions of packages that may matter, as far as they are in use here."""
    found = {"python": sys.version.partition(" ")[0]}
    for name in _PACKAGES:
        if _IMPORTED.get(name, name.replace("-", "_")) in sys.modules:
            with suppress(metadata.PackageNotFoundError):
                found[name] = metadata.version(name)
    own = str(getattr(func, "__module__", "") or "").partition(".")[0]
    version = getattr(sys.modules.get(own), "__version__", None)
    if isinstance(version, str) and own not in (*found, *_IMPORTED.values(), "ngff_xarray"):
        found[own] = version
    return found


_IMPORTED = {"scikit-image": "skimage"}
