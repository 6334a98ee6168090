"""JSON to model and back: the only place that knows versions of the specification.

The versions are imported when they are asked for: whoever opens other files, for whom xarray
imports this package too, should not pay for them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ngff_xarray.spec.detect import detect_kind, detect_version, is_claimed
    from ngff_xarray.spec.documents import Content
    from ngff_xarray.spec.versions import VERSIONS, Version, read, writer

__all__ = [
    "VERSIONS",
    "Content",
    "Version",
    "detect_kind",
    "detect_version",
    "is_claimed",
    "read",
    "writer",
]

_PLACES = {"Content": "documents", "detect_kind": "detect", "detect_version": "detect"}
_PLACES |= {"is_claimed": "detect"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_PLACES.get(name, 'versions')}")
    return getattr(module, name)
