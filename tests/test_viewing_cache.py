"""Caches, threads and clocks: bounded, shared, in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_xarray.viewing.cache import Loader, Lru
from ngff_xarray.viewing.workers import AFTERWARDS, IDLE, URGENT, WANTED, Timer, Workers


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60)), max_size=60))
def test_a_cache_never_holds_more_than_it_may(puts: list[tuple[int, int]]) -> None:
    cache: Lru[int, int] = Lru(100, lambda value: value)
    for key, size in puts:
        cache.put(key, size)
        assert cache.get(key) == size
        assert cache.nbytes <= 100
    held = [cache.get(key) for key in range(10)]
    assert sum(size for size in held if size is not None) == cache.nbytes


def test_what_was_used_longest_ago_goes_first() -> None:
    cache: Lru[str, int] = Lru(3, lambda value: 1)
    for key in "abc":
        cache.put(key, 1)
    cache.get("a")
    cache.put("d", 1)
    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]


def test_what_is_too_large_is_not_kept() -> None:
    cache: Lru[str, int] = Lru(3, lambda value: value)
    cache.put("a", 2)
    cache.put("a", 4)
    assert (cache.get("a"), cache.nbytes, len(cache)) == (None, 0, 0)


def test_nothing_is_loaded_twice_at_the_same_time() -> None:
    loader: Loader[int, int] = Loader(Lru(10**6, lambda value: 8))
    entered, go_on = threading.Event(), threading.Event()
    loads: list[Sequence[int]] = []

    def slow(keys: Sequence[int]) -> dict[int, int]:
        loads.append(keys)
        entered.set()
        assert go_on.wait(30)
        return {key: key * 10 for key in keys}

    def quick(keys: Sequence[int]) -> dict[int, int]:
        loads.append(keys)
        return {key: key * 10 for key in keys}

    results: list[dict[int, int]] = []
    first = threading.Thread(target=lambda: results.append(loader.fetch([1, 2], slow)))
    first.start()
    assert entered.wait(30)
    second = threading.Thread(target=lambda: results.append(loader.fetch([2, 3], quick)))
    second.start()
    while len(loads) < 2:
        pass
    go_on.set()
    first.join(30)
    second.join(30)
    assert loads == [[1, 2], [3]]
    assert results == [{1: 10, 2: 20}, {2: 20, 3: 30}]
    assert loader.fetch([1, 2, 3], quick) == {1: 10, 2: 20, 3: 30}
    assert len(loads) == 2


def test_an_error_is_of_those_who_wait_and_not_kept() -> None:
    loader: Loader[int, int] = Loader(Lru(10**6, lambda value: 8))

    def broken(keys: Sequence[int]) -> dict[int, int]:
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        loader.fetch([1], broken)
    assert loader.fetch([1], lambda keys: {1: 5}) == {1: 5}


def test_urgent_work_comes_first_even_while_all_others_wait() -> None:
    workers = Workers(1)
    started, hang, done = threading.Event(), threading.Event(), threading.Event()
    order: list[str] = []

    def slow() -> None:
        started.set()
        hang.wait(30)

    workers.submit(WANTED, slow)
    assert started.wait(30)
    for urgency, name in ((IDLE, "idle"), (AFTERWARDS, "afterwards"), (WANTED, "wanted")):
        workers.submit(urgency, lambda name=name: order.append(name))  # type: ignore[misc]
    workers.submit(URGENT, done.set)
    assert done.wait(30)  # the thread of all the rest still hangs
    assert order == []
    last = threading.Event()
    workers.submit(IDLE, last.set)
    hang.set()
    assert last.wait(30)
    assert order == ["wanted", "afterwards", "idle"]
    workers.close()


def test_work_that_fails_does_not_end_its_thread(caplog: pytest.LogCaptureFixture) -> None:
    workers = Workers(1)
    done = threading.Event()
    workers.submit(WANTED, lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    workers.submit(WANTED, done.set)
    assert done.wait(30)
    workers.close()
    assert "failed" in caplog.text


def test_dropped_work_is_not_done() -> None:
    workers = Workers(1)
    started, hang, last = threading.Event(), threading.Event(), threading.Event()
    done: list[int] = []

    def slow() -> None:
        started.set()
        hang.wait(30)

    workers.submit(WANTED, slow)
    assert started.wait(30)
    for i in range(4):
        workers.submit(WANTED, lambda i=i: done.append(i), about=i)  # type: ignore[misc]
    dropped = workers.drop(lambda job: job.about in (1, 2))
    assert sorted(job.about for job in dropped) == [1, 2]  # type: ignore[type-var]
    workers.submit(WANTED, last.set)
    hang.set()
    assert last.wait(30)
    assert done == [0, 3]
    workers.close()
    workers.submit(WANTED, lambda: done.append(9))
    assert done == [0, 3]


def test_a_timer_does_things_in_their_order_and_not_what_was_cancelled() -> None:
    timer = Timer()
    done: list[str] = []
    last = threading.Event()
    timer.later(0.02, lambda: done.append("late"))
    timer.later(0.01, lambda: done.append("cancelled")).cancel()
    timer.later(0.0, lambda: done.append("early"))
    timer.later(0.03, last.set)
    assert last.wait(30)
    assert done == ["early", "late"]
    timer.close()
    timer.close()


def test_threads_end_when_there_is_no_work_and_begin_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ngff_xarray.viewing.workers._REST", 0.05)
    workers, timer = Workers(3), Timer()
    for _ in range(2):
        worked, timed = threading.Event(), threading.Event()
        workers.submit(WANTED, worked.set)
        timer.later(0.1, timed.set)
        assert worked.wait(30)
        assert timed.wait(30)
        end = time.monotonic() + 30
        while workers._threads or timer._thread is not None:
            assert time.monotonic() < end
            time.sleep(0.01)
    workers.close()
    timer.close()


def test_values_are_dropped_by_their_keys() -> None:
    cache: Lru[int, str] = Lru(100, len)
    for key in range(4):
        cache.put(key, "12345")
    cache.drop(lambda key: key % 2 == 0)
    assert [cache.get(key) for key in range(4)] == [None, "12345", None, "12345"]
    assert cache.nbytes == 10
