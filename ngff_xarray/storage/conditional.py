"""Keys that change only if nobody else has changed them meanwhile, where a store can tell."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import ObjectStore

_KINDS = {"S3Store", "GCSStore", "AzureStore", "MemoryStore"}  # of obstore
_TRIES, _PAUSE = 200, 0.05  # seconds
_random = random.Random()

Change = Callable[[bytes | None], bytes | None]


def is_conditional(store: Store) -> bool:
    """Tell whether puts into a store may have conditions (``If-Match``, ``If-None-Match``).

    Whether its server heeds them is not known: AWS, Google, Azure, SeaweedFS and MinIO do.
    """
    return isinstance(store, ObjectStore) and type(store.store).__name__ in _KINDS


async def change(store: Store, key: str, made: Change) -> None:
    """Write what is to stand under a key, made of what stands there.

    Where puts may have conditions, it is made again if somebody else was faster; elsewhere nobody
    else may write meanwhile.

    Parameters
    ----------
    store
        The store.
    key
        The key.
    made
        Returns the new content, of the old or None; None to leave it. May be called again.
    """
    if is_conditional(store):
        await _swap(store, key, made)
        return
    found = await store.get(key, default_buffer_prototype())
    old = None if found is None else found.to_bytes()
    new = made(old)
    if new is not None and new != old:
        await _put(store, key, new)


async def _put(store: Store, key: str, content: bytes) -> None:
    await store.set(key, default_buffer_prototype().buffer.from_bytes(content))


async def _swap(store: Any, key: str, made: Change) -> None:
    from obstore.exceptions import AlreadyExistsError, NotFoundError, PreconditionError

    tried: set[bytes] = set()
    for _ in range(_TRIES):
        old, mode = await _versioned(store, key)
        if old is not None and old in tried:
            return  # it was put, and the answer was lost
        new = made(old)
        if new is None or new == old:
            return
        try:
            await _put_if(store, key, new, mode)
        except (AlreadyExistsError, PreconditionError, NotFoundError):
            tried.add(new)
            await asyncio.sleep(_random.uniform(0, _PAUSE))
        else:
            return
    raise OSError(f"{key}: others changed it, {_TRIES} times in a row")


async def _versioned(store: Any, key: str) -> tuple[bytes | None, Any]:
    """Return what stands under a key, and the condition that it still does."""
    from obstore import get_async
    from obstore.exceptions import NotFoundError

    try:
        found = await get_async(store.store, key)
    except (FileNotFoundError, NotFoundError):  # one or the other, by its version
        return None, "create"
    content = bytes(await found.bytes_async())
    said = {name: found.meta[name] for name in ("e_tag", "version") if found.meta.get(name)}
    return content, said or "overwrite"


async def _put_if(store: Any, key: str, content: bytes, mode: Any) -> None:
    from obstore import put_async

    try:
        await put_async(store.store, key, content, mode=mode)
    except Exception as error:
        if not _is_unable(error):
            raise
        await _put(store, key, content)


def _is_unable(error: Exception) -> bool:
    """Tell whether a store, or its server, knows no conditions."""
    kinds = {each.__name__ for each in type(error).__mro__}
    unable = bool(kinds & {"NotImplementedError", "NotSupportedError"})
    return unable or "501 Not Implemented" in str(error)
