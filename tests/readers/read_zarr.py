"""zarr-python: groups and arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import told
import zarr


def read_attributes(path: Path) -> Any:
    return zarr.open_group(path, mode="r").attrs.asdict() if path.exists() else None


def read_array(path: Path) -> Any:
    return zarr.open_array(path, mode="r")[...]


told.tell(*told.by_hand(read_attributes, read_array))
