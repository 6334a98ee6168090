"""A store that is watched, and that fails when it is told to."""

from __future__ import annotations

import asyncio
from typing import Any

import zarr


class Watched(zarr.storage.MemoryStore):
    """Notes what is read, and fails at the N-th operation that changes it and all after it."""

    def __init__(self, keys: dict[str, Any] | None = None, left: int = 10**9) -> None:
        super().__init__({} if keys is None else keys)
        self.left = left
        self.read: list[str] = []
        self.changed: list[str] = []

    def _change(self, key: str) -> None:
        if self.left <= 0:
            raise OSError(28, "No space left on device")
        self.left -= 1
        self.changed.append(key)

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        self.read.append(key)
        return await super().get(key, prototype, byte_range)

    async def set(self, key: str, value: Any, byte_range: Any = None) -> None:
        self._change(key)
        await super().set(key, value, byte_range)

    def set_sync(self, key: str, value: Any) -> None:
        self._change(key)
        asyncio.run(super().set(key, value))

    async def delete(self, key: str) -> None:
        if key in self._store_dict:
            self._change(key)
        await super().delete(key)

    async def delete_dir(self, prefix: str) -> None:
        for key in [key async for key in self.list_prefix(f"{prefix.rstrip('/')}/")]:
            await self.delete(key)  # one after another, as object stores do
