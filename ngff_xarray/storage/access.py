"""How a store is to be read: credentials, patience, and what is taken for an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ngff_xarray.errors import SelectionError

TIMEOUT = 60.0  # seconds
CONNECTIONS = 64


@dataclass(frozen=True)
class Access:
    """How a store is to be read.

    Parameters
    ----------
    storage_options
        Credentials, endpoint and the like, as fsspec and xarray take them.
    missing
        What a chunk that is not there stands for: the fill value, as the specification has it, or
        an error.
    timeout
        Seconds until a key that a network does not give is given up, with all retries.
    connections
        How many requests are under way at a time.
    trust
        Whether a server may send elsewhere, to another host: over HTTP, those of S3 and stores of
        obstore always may. Also whether references may lead out of their directory, and
        collections out of their store.
    progress
        Whether opening shows a bar; by default after a second, in a notebook or a terminal.

    Raises
    ------
    SelectionError
        If one of them makes no sense.
    """

    storage_options: Mapping[str, Any] = field(default_factory=dict)
    missing: Literal["fill", "raise"] = "fill"
    timeout: float = TIMEOUT
    connections: int = CONNECTIONS
    trust: bool = False
    progress: bool | None = None

    def __post_init__(self) -> None:
        if self.missing not in ("fill", "raise"):
            raise SelectionError(f"missing: expected 'fill' or 'raise', found {self.missing!r}")
        if not self.timeout > 0:
            raise SelectionError(f"timeout: expected seconds, more than 0; found {self.timeout!r}")
        if self.connections < 1:
            raise SelectionError(f"connections: expected 1 or more, found {self.connections!r}")
