"""Servers that fail: the ways to one, what goes wrong with a chunk, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from servers import CountingServer
from stores import write_image

from ngff_xarray.errors import NgffError
from ngff_xarray.storage import s3

Open = Callable[..., xr.DataTree]
PIXELS = np.arange(64 * 64, dtype="u2").reshape(64, 64) + 1
BACKENDS = ("http", "s3 by obstore", "s3 by s3fs", "a store of obstore")
IMAGE = "bucket/a.ome.zarr"
KEY = f"/{IMAGE}/0/c/0/0"  # the first of 2 x 2 chunks, or the shard of them


def write(folder: Path, shards: Any = None) -> None:
    """Write an image of one level."""
    write_image(folder / IMAGE, axes="yx", data=PIXELS, levels=1, chunks=(32, 32), shards=shards)


@contextmanager
def opener(backend: str, server: CountingServer) -> Iterator[Open]:
    """Opens that image by one of the ways to a server."""

    def open_(**options: Any) -> xr.DataTree:
        if backend == "http":
            return xr.open_datatree(f"{server.url}/{IMAGE}", engine="ngff", **options)
        if backend == "a store of obstore":
            from obstore.store import HTTPStore

            store = HTTPStore.from_url(
                f"{server.url}/{IMAGE}",
                client_options={"allow_http": True},
                retry_config={"max_retries": 0},
            )
            return xr.open_datatree(store, engine="ngff", **options)  # type: ignore[arg-type]
        given = {"endpoint_url": server.url, "anon": True}
        return xr.open_datatree(f"s3://{IMAGE}", engine="ngff", storage_options=given, **options)

    is_for_obstore = s3.is_for_obstore
    if backend == "s3 by s3fs":
        s3.is_for_obstore = lambda access: False
    try:
        yield open_
    finally:
        s3.is_for_obstore = is_for_obstore


def pixels(tree: xr.DataTree) -> Any:
    return tree["0/image"].values


@dataclass(frozen=True)
class Fault:
    """What goes wrong with a chunk, and what is to come of it.

    Parameters
    ----------
    name
        In words.
    expected
        ``"read"``, ``"filled"``, or what the error says.
    plan
        What happens to the next requests, as `CountingServer.faults` has it.
    status
        What all requests are answered with.
    options
        For opening.
    is_shard
        Whether it happens to a part of a shard.
    """

    name: str
    expected: str
    plan: Sequence[int | str] = ()
    status: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    is_shard: bool = False

    def begin(self, server: CountingServer) -> None:
        """Let it go wrong from now on."""
        server.faults[KEY] = [
            each.replace("{other}", server.url.replace("127.0.0.1", "localhost"))
            if isinstance(each, str)
            else each
            for each in self.plan
        ]
        if self.status:
            server.failures[KEY] = self.status


FOREVER = 1000  # times
FAULTS = (
    Fault("503 once", "read", [503]),
    Fault("500 twice", "read", [500, 500]),
    Fault("429 once", "read", [429]),
    Fault("the connection is reset once", "read", ["reset"]),
    Fault("half of the body, once", "read", ["short"]),
    Fault("502, a reset, 504", "read", [502, "reset", 504]),
    Fault("no answer, once", "read", ["hang"], options={"timeout": 4}),
    Fault("503 for ever", "the server answered 503", status=503),
    Fault("resets for ever", "the connection was lost", ["reset"] * FOREVER),
    Fault("half of the body, for ever", "the connection was lost", ["short"] * FOREVER),
    Fault("no answer, ever", "no answer in time", ["hang"] * FOREVER, options={"timeout": 4}),
    Fault("401", "the server answered 401|refused|denied", status=401),
    Fault("403", "the server answered 403|denied", status=403),
    Fault("404", "filled", status=404),
    Fault(
        "404, with missing='raise'", "is not in the store", status=404, options={"missing": "raise"}
    ),
    Fault("a page of HTML", "a page of HTML", ["page"] * FOREVER),
    Fault("ranges are ignored", "ignores ranges", ["whole"] * FOREVER, is_shard=True),
    Fault("a redirection to another host", "another host", ["to {other}" + KEY]),
    Fault(
        "the same, with trust=True",
        "read",
        ["to {other}" + KEY],
        options={"trust": True},
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What came of reading: what, how many requests for the chunk, and in how many seconds."""

    text: str
    requests: int
    seconds: float


def outcome(open_: Open, server: CountingServer, fault: Fault) -> Outcome:
    """Read all pixels while a fault is there."""
    filled = PIXELS.copy()
    filled[:32, :32] = 0
    tree = open_(**fault.options)
    fault.begin(server)
    server.clear()
    start = time.monotonic()
    part = np.s_[:32, 32:] if fault.is_shard else np.s_[:, :]
    try:
        found = tree["0/image"][part].values
        if np.array_equal(found, PIXELS[part]):
            text = "read"
        else:
            text = "filled" if np.array_equal(found, filled[part]) else "wrong pixels"
    except NgffError as error:
        text = f"{type(error).__name__}: {error}"
    finally:
        server.faults.clear()
        server.failures.clear()
    seconds = time.monotonic() - start
    asked = [request for request in server.requests if request.path == KEY]
    return Outcome(text, len(asked), seconds)
