"""What many ask for at a time is fetched once."""

from __future__ import annotations

import asyncio
import pickle
from collections import Counter

import pytest

from ngff_xarray.once import Once


class Fetcher:
    """Counts what it is asked for; 0 is None, negative numbers fail."""

    def __init__(self) -> None:
        self.asked: Counter[int] = Counter()
        self.once: Once[int, int | None] = Once(2)

    async def get(self, key: int) -> int | None:
        async def fetch() -> int | None:
            self.asked[key] += 1
            await asyncio.sleep(0.01)
            if key < 0:
                raise OSError(f"{key}")
            return key or None

        return await self.once.get(key, fetch)


def test_many_at_a_time_and_later() -> None:
    fetcher = Fetcher()

    async def many() -> list[int | None]:
        return await asyncio.gather(*(fetcher.get(1) for _ in range(5)))

    assert asyncio.run(many()) == [1] * 5
    assert asyncio.run(many()) == [1] * 5  # on another event loop
    assert fetcher.asked == {1: 1}
    assert (fetcher.once.here(1), fetcher.once.here(2)) == (1, None)
    assert pickle.loads(pickle.dumps(fetcher.once)).here(1) is None


def test_failures_and_none_are_not_kept() -> None:
    fetcher = Fetcher()

    async def many(key: int) -> list[int | BaseException | None]:
        return await asyncio.gather(*(fetcher.get(key) for _ in range(3)), return_exceptions=True)

    for _ in range(2):
        assert {str(error) for error in asyncio.run(many(-1))} == {"-1"}
        assert asyncio.run(many(0)) == [None] * 3
    assert fetcher.asked == {-1: 2, 0: 2}


def test_the_latest_are_kept() -> None:
    fetcher = Fetcher()

    async def turns() -> None:
        for key in (1, 2, 1, 3, 1, 2):
            await fetcher.get(key)

    asyncio.run(turns())
    assert fetcher.asked == {1: 1, 2: 2, 3: 1}


def test_who_gives_up_waiting_does_not_stop_the_others() -> None:
    fetcher = Fetcher()

    async def both() -> int | None:
        first, second = (asyncio.ensure_future(fetcher.get(1)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        found = await second
        with pytest.raises(asyncio.CancelledError):
            await first
        return found

    assert asyncio.run(both()) == 1
    assert fetcher.asked == {1: 1}
