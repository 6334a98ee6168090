"""Work for a cluster: what can go to its workers, and waiting for what they do.

The cluster is that of the `distributed.Client` which dask works with here, if there is one. What
is pickled for the workers says what it is made of; the pixels and stores in the memory of this
process do not go there.
"""

from __future__ import annotations

import io
import pickle
import platform
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
import zarr
from zarr.core.sync import sync
from zarr.storage import StorePath

from ngff_xarray.boxes import Box
from ngff_xarray.errors import StoreError
from ngff_xarray.progress import Bar
from ngff_xarray.text import printable

if TYPE_CHECKING:
    import dask.array as da
    from dask._task_spec import TaskRef
    from distributed import Client

_MOST_PIXELS = 2**20  # bytes of an array that go to the workers along with what it belongs to
_MOST = 2**25  # bytes of all that
_IN_MEMORY = frozenset({"MemoryStore", "MemoryFileSystem"})  # of zarr, obstore and fsspec
_TICK = 0.2  # seconds
_PATIENCE = 30.0  # seconds until tasks that were cancelled have noticed


def active() -> Client | None:
    """Return the client of the cluster that dask works with here.

    None in a task of a worker, who would wait for himself, and where dask was told to use another
    scheduler.
    """
    distributed = sys.modules.get("distributed")
    if distributed is None or is_task():
        return None
    from dask.base import get_scheduler

    try:
        chosen = get_scheduler()  # type: ignore[no-untyped-call]  # dask is not annotated
    except RuntimeError:  # the client is for coroutines
        return None
    client = getattr(chosen, "__self__", None)
    return client if isinstance(client, distributed.Client) else None


def is_task() -> bool:
    """Tell whether this runs in a task of a worker."""
    get_worker = getattr(sys.modules.get("distributed"), "get_worker", None)
    if get_worker is None:  # also while another thread imports it
        return False
    try:
        get_worker()
    except ValueError:
        return False
    return True


# ---- what goes to the workers ------------------------------------------------------------------


class Staying(Exception):  # noqa: N818  # no error: the work is done here
    """What belongs to this process, and cannot go to another one."""


def packed(obj: Any) -> bytes:
    """Return an object as workers unpack it.

    Raises
    ------
    Staying
        If it holds pixels or a store in the memory of this process, or cannot be pickled.

    Examples
    --------
    >>> unpacked(packed({"step": (2, 2)}))
    {'step': (2, 2)}
    >>> packed(np.zeros(10**6))
    Traceback (most recent call last):
    ...
    ngff_xarray.cluster.Staying: 8000000 bytes of pixels in memory
    """
    file = io.BytesIO()
    packer = _Packer(file)
    try:
        packer.dump((obj, packer.arrays))  # in this order: the second is filled by the first
    except Staying:
        raise
    except Exception as error:  # whatever a class raises that is not to be pickled
        raise Staying(f"it cannot be pickled: {printable(error, 200)}") from error
    if file.tell() > _MOST:
        raise Staying(f"{file.tell()} bytes")
    return file.getvalue()


class _Packer(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is not annotated
    """Refuses what must stay, and notes the stored arrays that it meets."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.arrays: list[StorePath] = []

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, np.ndarray) and obj.nbytes > _MOST_PIXELS:
            raise Staying(f"{obj.nbytes} bytes of pixels in memory")
        if not isinstance(obj, type) and _IN_MEMORY & {t.__name__ for t in type(obj).__mro__}:
            raise Staying(f"a {type(obj).__name__}")
        if isinstance(obj, zarr.Array):
            name = "zarr.json" if obj.metadata.zarr_format == 3 else ".zarray"
            self.arrays.append(obj.store_path / name)
        return super().reducer_override(obj)


@lru_cache(maxsize=16)
def unpacked(content: bytes) -> Any:
    """Return an object of another process; its arrays must be here, too, and not read as empty."""
    obj, arrays = pickle.loads(content)
    for document in arrays:
        if not sync(document.store.exists(document.path)):
            raise StoreError(
                f"{platform.node()}: there is no {printable(document, 500)}: all workers of the "
                "cluster must see the same place, a disk that they share or an object store"
            )
    return obj


# ---- tasks -------------------------------------------------------------------------------------


class Work:
    """Tasks for the workers, which may use the results of others.

    Parameters
    ----------
    client
        Of the cluster.
    shared
        What all of them get, packed.
    """

    def __init__(self, client: Client, shared: bytes) -> None:
        from dask._task_spec import DataNode, TaskRef

        self._client, self._job = client, f"ngff-{uuid.uuid4().hex}"
        self._shared = TaskRef(f"{self._job}-shared")
        self._tasks: dict[Any, Any] = {self._shared.key: DataNode(self._shared.key, shared)}
        self._arrays: list[Any] = []

    def add(self, func: Callable[..., Any], *args: Any) -> TaskRef:
        """Add a task; return what stands for its result among the arguments of others.

        Parameters
        ----------
        func
            A function of a module. It is called with what is shared first.
        args
            The others; results of other tasks, and lists of these, are put in their place.
        """
        from dask._task_spec import List, Task, TaskRef

        name = func.__name__.strip("_")
        key = (f"ngff-{name}-{self._job[5:]}", len(self._tasks))
        filled = [List(*each) if isinstance(each, list) else each for each in args]
        self._tasks[key] = Task(key, _called, self._shared, self._job, func, *filled)
        return TaskRef(key)

    def pixels(self, data: da.Array, boxes: Sequence[Box]) -> list[TaskRef]:
        """Return what stands for the pixels of an array in boxes, that are a grid of all of it."""
        import dask.base
        from dask._task_spec import TaskRef

        starts = [sorted({box[i].start for box in boxes}) for i in range(data.ndim)]
        chunks = tuple(
            tuple(b - a for a, b in zip(edges, [*edges[1:], size], strict=True))
            for edges, size in zip(starts, data.shape, strict=True)
        )
        cut: Any = data.rechunk(chunks, method="tasks")  # type: ignore[no-untyped-call]  # as above
        (cut,) = dask.base.optimize(cut)  # type: ignore[no-untyped-call]  # as above
        self._arrays.append(cut)
        numbers = [{start: number for number, start in enumerate(edges)} for edges in starts]
        return [
            TaskRef((cut.name, *(n[side.start] for n, side in zip(numbers, box, strict=True))))
            for box in boxes
        ]

    def run(self, last: TaskRef, bar: Bar, total: int) -> Any:
        """Return the result of a task, when all are done that it needs.

        Parameters
        ----------
        last
            The task.
        bar
            Counts what tasks say that they `did`, and is shown meanwhile.
        total
            How much that is in all.

        Raises
        ------
        StoreError
            If workers died again and again, or the cluster is gone.
        """
        from dask.delayed import Delayed
        from dask.highlevelgraph import HighLevelGraph

        graph = HighLevelGraph.from_collections(self._job, self._tasks, self._arrays)
        delayed = Delayed(last.key, graph, layer=self._job)  # type: ignore[no-untyped-call]
        said = _Said(bar)
        self._client.subscribe_topic(self._job, said)
        try:
            future = self._client.compute(delayed, optimize_graph=False)
            found = self._finished(future, bar)
            said.end(total)
            return found
        finally:
            said.end()
            with suppress(Exception):  # the cluster may be gone
                self._client.unsubscribe_topic(self._job)

    def _finished(self, future: Any, bar: Bar) -> Any:
        try:
            return self._waited(future, bar)
        except BaseException:  # also after Ctrl-C
            self._stop(future)
            raise

    def _waited(self, future: Any, bar: Bar) -> Any:
        from distributed import TimeoutError, wait

        with told():
            while not future.done():
                with suppress(TimeoutError):
                    wait([future], timeout=_TICK)
                bar.show()
            return future.result()

    def _stop(self, future: Any) -> None:
        """Cancel all tasks, and wait until none writes any more."""
        end = time.monotonic() + _PATIENCE
        with suppress(Exception):  # the cluster may be gone; what went wrong before says more
            self._client.cancel([future], force=True)
            while time.monotonic() < end:
                busy = self._client.run(_is_busy, self._job, on_error="ignore")
                if not any(each is True for each in busy.values()):
                    return
                time.sleep(_TICK / 4)


@contextmanager
def told() -> Iterator[None]:
    """Let what becomes of a cluster be told as errors of ours.

    Raises
    ------
    StoreError
        If workers died again and again, or the cluster is gone.
    """
    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    try:
        yield
    except KilledWorker as error:
        raise StoreError(
            "workers of the cluster died, one after another, of the same piece of work (is "
            f"their memory enough?): {_in_a_line(error)}"
        ) from error
    except (CancelledError, CommClosedError) as error:
        raise StoreError(
            f"the cluster is gone, or has cancelled the work: {_in_a_line(error)}"
        ) from error


def _in_a_line(error: BaseException) -> str:
    return printable(" ".join(str(error).split()), 300)


class _Said:
    """Lets a bar count what tasks say; what is done again counts once."""

    def __init__(self, bar: Bar) -> None:
        self._bar: Bar | None = bar
        self._known: set[str] = set()
        self._done = 0
        self._lock = threading.Lock()

    def __call__(self, event: tuple[float, Any]) -> None:
        task, number, amount = event[1]
        with self._lock:
            if self._bar is not None and f"{task} {number}" not in self._known:
                self._known.add(f"{task} {number}")
                self._done += amount
                self._bar.did(amount)

    def end(self, total: int | None = None) -> None:
        """Count what has not been said yet, if all is done; and nothing from now on."""
        with self._lock:
            if self._bar is not None and total is not None:
                self._bar.did(total - self._done)
            self._bar = None


# ---- in a worker -------------------------------------------------------------------------------

_busy: Counter[str] = Counter()
_lock = threading.Lock()
_task = threading.local()


class Cancelled(Exception):  # noqa: N818  # nobody hears of it
    """Nobody waits for this task any more."""


def _called(shared: bytes, job: str, func: Callable[..., Any], *args: Any) -> Any:
    """Run a task."""
    with _lock:
        _busy[job] += 1
    _task.job, _task.said = job, 0
    try:
        if not is_wanted():
            raise Cancelled
        return func(unpacked(shared), *args)
    finally:
        with _lock:
            _busy[job] -= 1


def _is_busy(job: str) -> bool:
    return _busy[job] > 0


def is_wanted() -> bool:
    """Tell whether anybody waits for the task that this runs in."""
    from distributed import get_worker

    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    return task is not None and task.state not in ("cancelled", "released", "forgotten")


def did(amount: int) -> None:
    """Let the caller's bar count what a task has done."""
    from distributed import get_worker

    worker = get_worker()
    worker.log_event(_task.job, [str(worker.get_current_task()), _task.said, amount])
    _task.said += 1
