"""Many calls of one function: here one after another, on threads, in processes, on a cluster."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from ngff_xarray import cluster, pyramid
from ngff_xarray.errors import SelectionError, StoreError, UnsupportedError
from ngff_xarray.progress import Bar
from ngff_xarray.text import printable

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")

Scheduler = Literal["threads", "processes", "synchronous"]

_TICK = 0.2  # seconds from one look at the bar to the next


@dataclass(frozen=True, slots=True)
class Crew:
    """Who does the work.

    Parameters
    ----------
    scheduler
        ``"threads"``, ``"processes"``, ``"synchronous"``, or a `distributed.Client`.
    workers
        How many at a time, but of a cluster, which knows.
    """

    scheduler: Any
    workers: int

    @classmethod
    def of(cls, scheduler: Any, workers: int | None) -> Crew:
        """Return whom a user means.

        Parameters
        ----------
        scheduler
            By name, a `distributed.Client`, or None: the cluster that dask works with, or threads.
        workers
            How many at a time, by default one a processor.

        Raises
        ------
        SelectionError
            If there is nobody of that name.
        """
        if workers is not None and (not isinstance(workers, int) or workers < 1):
            raise SelectionError(f"workers: expected at least 1, found {printable(workers, 40)!r}")
        if scheduler is None:
            scheduler = cluster.active() or ("synchronous" if cluster.is_task() else "threads")
        elif isinstance(scheduler, str) and scheduler not in get_args(Scheduler):
            raise SelectionError(
                f"scheduler={printable(scheduler, 40)!r}: expected one of "
                f"{', '.join(get_args(Scheduler))}, or a distributed.Client"
            )
        elif not isinstance(scheduler, str) and not hasattr(scheduler, "get_executor"):
            raise SelectionError(
                f"scheduler: expected a name or a distributed.Client, found a "
                f"{type(scheduler).__name__}"
            )
        if scheduler == "synchronous":
            workers = 1
        elif not isinstance(scheduler, str):
            workers = sum(scheduler.nthreads().values()) or 1
        return cls(scheduler, workers or pyramid.processors())

    @property
    def is_here(self) -> bool:
        """Whether they are in this process."""
        return self.scheduler in ("threads", "synchronous")

    def run(
        self, act: Callable[[S, T], R], shared: S, items: Iterable[T], bar: Bar
    ) -> Iterator[tuple[T, R | Exception]]:
        """Yield what a function returns or raises for each item, as it comes.

        Few more than there are workers are under way at a time. Who stops listening stops it.

        Parameters
        ----------
        act
            A function of a module, of what is shared and an item.
        shared
            What all calls get; it is pickled for other processes.
        items
            One for each call.
        bar
            Counts the calls, and is shown meanwhile.

        Raises
        ------
        UnsupportedError
            If other processes cannot have what is shared.
        StoreError
            If a process is killed.
        """
        if self.scheduler == "synchronous":
            for item in items:
                yield item, _caught(act, shared, item)
                bar.did()
                bar.show()
            return
        with self._executor(act, shared) as (pool, submit):
            running: dict[Future[R], T] = {}
            try:
                for item in items:
                    while len(running) >= 2 * self.workers:
                        yield from _finished(running, bar)
                    running[submit(item)] = item
                while running:
                    yield from _finished(running, bar)
            finally:
                for future in running:
                    future.cancel()
                pool.shutdown()

    @contextmanager
    def caller(self, act: Callable[[S, T], R], shared: S) -> Iterator[Callable[[T], R]]:
        """Let a function be called for an item by these, from several threads, and wait for it.

        Parameters
        ----------
        act, shared
            As `run` takes them.
        """
        if self.scheduler == "synchronous":
            alone = threading.Lock()

            def call(item: T) -> R:
                with alone:
                    return act(shared, item)

            yield call
            return
        with self._executor(act, shared) as (pool, submit):
            try:
                yield lambda item: submit(item).result()
            finally:
                pool.shutdown()

    @contextmanager
    def _executor(
        self, act: Callable[[S, T], R], shared: S
    ) -> Iterator[tuple[Executor, Callable[[T], Future[R]]]]:
        if self.scheduler == "threads":
            pool = ThreadPoolExecutor(self.workers, thread_name_prefix="ngff-apply")
            yield pool, lambda item: pool.submit(act, shared, item)
            return
        content = _sent(shared)
        if self.scheduler == "processes":
            context = _context()
            processes = ProcessPoolExecutor(
                self.workers, mp_context=context, initializer=_begin, initargs=(content,)
            )
            yield processes, lambda item: processes.submit(_in_process, act, _sent(item))
            return
        workers = self.scheduler.get_executor(pure=False)
        # a task and not scattered: what was scattered is lost with the last worker that had it
        known = self.scheduler.submit(_same, content, pure=False)
        yield workers, lambda item: workers.submit(_on_worker, known, act, _sent(item))


def _sent(obj: Any) -> bytes:
    """Return what other processes get for an object."""
    try:
        return cluster.packed(obj)
    except cluster.Staying as error:
        raise UnsupportedError(
            f"other processes cannot have what is to be done: {error}: write the image with "
            ".ngff.to_zarr(path) and open that, or give scheduler='threads'"
        ) from error


def _caught(act: Callable[[S, T], R], shared: S, item: T) -> R | Exception:
    try:
        return act(shared, item)
    except Exception as error:
        return error


def _finished(running: dict[Future[R], T], bar: Bar) -> Iterator[tuple[T, R | Exception]]:
    """Yield what is finished, once something is."""
    done: set[Future[R]] = set()
    while not done:
        done, _ = wait(running, _TICK, return_when=FIRST_COMPLETED)
        bar.show()
    for future in done:
        item = running.pop(future)
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            raise StoreError(
                "a process was killed (is the memory enough?): give fewer workers=, or smaller "
                "blocks with block="
            ) from error
        if error is not None and not isinstance(error, Exception):
            raise error
        bar.did()
        yield item, error if error is not None else future.result()


def _context() -> Any:
    """Return how processes begin: with nothing of this one, and fast where that can be."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ngff_xarray.analyse.labels", "ngff_xarray.analyse.tables"])
    return context


# ---- in another process ------------------------------------------------------------------------

_content: list[bytes] = []


def _begin(content: bytes) -> None:
    _content[:] = [content]


def _in_process(act: Callable[[Any, Any], R], item: bytes) -> R:
    return act(cluster.unpacked(_content[0]), cluster.unpacked(item))


def _same(content: bytes) -> bytes:
    return content


def _on_worker(content: bytes, act: Callable[[Any, Any], R], item: bytes) -> R:
    return act(cluster.unpacked(content), cluster.unpacked(item))
