"""The xarray engine: ``xr.open_datatree`` and ``xr.open_dataset`` on OME-Zarr stores.

xarray imports this module whenever it guesses the engine of any file, so it stays light.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from xarray.backends import BackendEntrypoint

from ngff_xarray.urls import is_url, is_zip, local_path, neighbour
from ngff_xarray.virtual.kinds import is_imaris, kind_of

if TYPE_CHECKING:
    import xarray as xr

# endings that a zarr store, and a directory served over HTTP, can have
_ZARR_LIKE = re.compile(r"(zarr[^/]*|\.ozx|/[^/.]+|/\d+\.\d+)/*$", re.IGNORECASE)


_DECODING = (
    "mask_and_scale",
    "decode_times",
    "decode_timedelta",
    "concat_characters",
    "use_cftime",
    "decode_coords",
)


class NgffBackendEntrypoint(BackendEntrypoint):
    """Opens OME-Zarr images; leaves every other store to the other engines."""

    description = "Open OME-Zarr images (OME-NGFF) with named axes and physical coordinates"
    url = "https://ngff.openmicroscopy.org"
    supports_groups = True
    open_dataset_parameters: ClassVar[tuple[str, ...]] = (
        "filename_or_obj",
        "drop_variables",
        "level",
        "group",
        "storage_options",
        "missing",
        "timeout",
        "connections",
        "trust",
        "progress",
        "wells",
        "multiscale",
        *_DECODING,
    )

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Tell whether there is an OME-Zarr group, by a look at its metadata.

        Where these leave a doubt, as those of early images without a version do, the name
        (``….ome.zarr``) settles it. What is not there or cannot be read is claimed by its name
        alone: the error that follows is then this package's. So are folders that no engine opens
        and `ngff_xarray.open_image` does: the error says so.
        """
        kind = kind_of(filename_or_obj)
        if kind == "imaris" or _is_neighbour(filename_or_obj):
            return kind != "imaris" or is_imaris(filename_or_obj)
        if kind is None and not _may_be_zarr(filename_or_obj):
            return False
        from ngff_xarray import spec, store
        from ngff_xarray.errors import MetadataError, NgffError, UntrustedError
        from ngff_xarray.spec import spatialdata
        from ngff_xarray.unfinished import is_marked

        named = _named_ome(filename_or_obj)

        def wanted(attributes: dict[str, Any]) -> bool:
            kind = spec.detect_kind(attributes) if named else None
            tests = (spec.is_claimed, is_marked, spatialdata.is_store)
            return kind not in (None, "label") or any(test(attributes) for test in tests)

        try:
            group = store.look_ahead(filename_or_obj, wanted)
        except MetadataError:
            return named or (kind is None and store.mentions_ome(filename_or_obj))
        except UntrustedError:
            return True
        except NgffError:
            return named
        return named if group is None else wanted(group.attributes)

    def open_datatree(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        missing: Literal["fill", "raise"] = "fill",
        timeout: float = 60,
        connections: int = 64,
        trust: bool = False,
        progress: bool | None = None,
        wells: Sequence[str] | Literal["all"] | None = None,
        multiscale: int | str = 0,
        **decoding: Any,
    ) -> xr.DataTree:
        """Return an image, plate, well, collection or scene; no pixel is read.

        A plate opens to its wells; ``wells=["B/3"]`` or ``wells="all"`` opens these to their
        pixels. ``multiscale`` is the number or name of an image in a group that holds several.
        ``storage_options`` (credentials and the like, as of fsspec), ``missing``, ``timeout``,
        ``connections`` and ``trust`` say how to read, ``progress`` whether to show a bar: see
        `ngff_xarray.storage.Access`.
        """
        _check_decoding(decoding)
        from ngff_xarray.read import open_tree
        from ngff_xarray.storage import Access

        return open_tree(
            filename_or_obj,
            group=group,
            access=Access(storage_options or {}, missing, timeout, connections, trust, progress),
            drop_variables=drop_variables,
            wells=wells,
            multiscale=multiscale,
        )

    def open_groups_as_dict(self, filename_or_obj: Any, **kwargs: Any) -> dict[str, xr.Dataset]:
        """Return the Dataset of every node of the tree, by path."""
        tree = self.open_datatree(filename_or_obj, **kwargs)
        return {node.path: node.to_dataset() for node in tree.subtree}

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        level: Any = 0,
        group: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        missing: Literal["fill", "raise"] = "fill",
        timeout: float = 60,
        connections: int = 64,
        trust: bool = False,
        progress: bool | None = None,
        multiscale: int | str = 0,
        **decoding: Any,
    ) -> xr.Dataset:
        """Return one level of an image: by number, or by pixel size (``level="1 µm"``).

        xarray's options for decoding are taken and change nothing: pixels are stored as they are.
        """
        _check_decoding(decoding)
        from ngff_xarray.ops import level_dataset
        from ngff_xarray.read import open_tree
        from ngff_xarray.storage import Access

        tree = open_tree(
            filename_or_obj,
            group=group,
            access=Access(storage_options or {}, missing, timeout, connections, trust, progress),
            drop_variables=drop_variables,
            labels=False,
            multiscale=multiscale,
        )
        return level_dataset(tree, level)


def _check_decoding(options: Mapping[str, Any]) -> None:
    unknown = [name for name in options if name not in _DECODING]
    if unknown:
        raise TypeError(
            f"unexpected option {unknown[0]!r}; the engine takes drop_variables, level, group, "
            "storage_options, missing, timeout, connections, trust, progress, wells and multiscale"
        )


def _may_be_zarr(source: Any) -> bool:
    """Tell, without a look, whether there may be a zarr group."""
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if isinstance(source, str):
        path = local_path(source)
        if is_url(path):
            return _ZARR_LIKE.search(re.split(r"[?#]", path)[0]) is not None
        found = Path(path).expanduser()
        return found.is_dir() or _named_ome(path) or (is_zip(path) and found.is_file())
    module = type(source).__module__.partition(".")[0]
    return module == "zarr" or any(
        base.__module__.startswith("zarr.") for base in type(source).__mro__
    )


def _named_ome(source: Any) -> bool:
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else ""
    return str(name).rstrip("/").lower().endswith((".ome.zarr", ".ome.zarr.zip", ".ozx"))


def _is_neighbour(source: Any) -> bool:
    """Tell whether this is a folder of a format that is converted, which no engine opens."""
    if not isinstance(source, str | os.PathLike) or is_url(local_path(os.fspath(source))):
        return False
    return neighbour(Path(local_path(os.fspath(source))).expanduser()) != ""
