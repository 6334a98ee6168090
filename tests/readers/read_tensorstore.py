"""tensorstore: arrays, and documents by its JSON driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorstore as ts
import told


def _open(driver: str, path: Path) -> Any:
    return ts.open({"driver": driver, "kvstore": {"driver": "file", "path": str(path)}}).result()


def read_attributes(path: Path) -> Any:
    if (path / "zarr.json").exists():
        return _open("json", path / "zarr.json").read().result().item()["attributes"]
    if (path / ".zattrs").exists():
        return _open("json", path / ".zattrs").read().result().item()
    return None


def read_array(path: Path) -> Any:
    array = _open("zarr3" if (path / "zarr.json").exists() else "zarr", f"{path}/")
    return array.read().result()


told.tell(*told.by_hand(read_attributes, read_array))
