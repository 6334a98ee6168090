"""Threads that do the most urgent work first, and a clock for what is to happen later."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Protocol

_log = logging.getLogger(__name__)

_REST = 10.0
"""Seconds without work after which threads end; more work starts others. So viewers that nobody
looks at any more, as of a cell that was run again, cost none."""

URGENT, WANTED, AFTERWARDS, IDLE = range(4)
"""Coarse tiles and probes; tiles of the view; label ids; what may be wanted next."""

_MOMENT = 1.0  # seconds

Work = Callable[[], None]


@dataclass(order=True)
class Job:
    """One piece of work that waits for a thread."""

    urgency: int
    number: int
    work: Work = field(compare=False)
    about: Hashable = field(compare=False, default=None)


class Workers:
    """A few threads, and one more that does urgent work only.

    So what is urgent is done even while all the others wait for a slow store.

    Parameters
    ----------
    threads
        How many do work of every kind.
    """

    def __init__(self, threads: int) -> None:
        self._jobs: list[Job] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._running_idle = 0
        self._limits = [IDLE] * threads + [URGENT]
        self._threads: dict[int, threading.Thread] = {}

    def submit(self, urgency: int, work: Work, about: Hashable = None) -> None:
        """Do something soon; what it is ``about`` lets it be dropped before it begins."""
        with self._changed:
            if self._closed:
                return
            self._start()
            heapq.heappush(self._jobs, Job(urgency, next(self._numbers), work, about))
            self._changed.notify_all()

    def _start(self) -> None:
        """Start the threads that do not run; the lock is held."""
        for number, limit in enumerate(self._limits):
            if number not in self._threads:
                thread = threading.Thread(
                    target=self._run, args=(number, limit), name=f"ngff-tiles-{number}", daemon=True
                )
                self._threads[number] = thread
                thread.start()

    def drop(self, unwanted: Callable[[Job], bool]) -> list[Job]:
        """Forget the jobs that have not begun and are unwanted, and return them."""
        with self._changed:
            dropped = [job for job in self._jobs if unwanted(job)]
            if dropped:
                self._jobs = [job for job in self._jobs if not unwanted(job)]
                heapq.heapify(self._jobs)
            return dropped

    def stop(self) -> None:
        """Begin nothing more: the threads end once they have done what they are doing."""
        with self._changed:
            self._closed = True
            self._jobs.clear()
            self._changed.notify_all()

    def close(self) -> None:
        """Stop, and wait a moment for the threads; one that reads from a slow store goes on."""
        self.stop()
        until = time.monotonic() + _MOMENT
        for thread in list(self._threads.values()):
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(timeout=max(0.0, until - time.monotonic()))

    def _run(self, number: int, limit: int) -> None:
        while (job := self._next(number, limit)) is not None:
            try:
                job.work()
            except Exception:  # one bad job must not end the thread of all others
                _log.exception("a job of the viewer failed")
            if job.urgency == IDLE:
                with self._changed:
                    self._running_idle -= 1
                    self._changed.notify_all()
            del job  # and all that it knows, while this waits for the next

    def _next(self, number: int, limit: int) -> Job | None:
        """Wait for a job; None when the thread is to end."""
        with self._changed:
            is_resting = False
            while not self._closed and not (is_resting and not self._jobs):
                if self._jobs and self._may_begin(self._jobs[0], limit):
                    job = heapq.heappop(self._jobs)
                    self._running_idle += job.urgency == IDLE
                    return job
                is_resting = not self._changed.wait(_REST)
            self._threads.pop(number, None)
            return None

    def _may_begin(self, job: Job, limit: int) -> bool:
        # one at a time of what nobody asked for: the kernel is the user's
        return job.urgency <= limit and not (job.urgency == IDLE and self._running_idle)


class Handle(Protocol):
    """Something that is to happen later."""

    def cancel(self) -> None:
        """Let it not happen."""


class Clock(Protocol):
    """The time, and what is to happen then."""

    def now(self) -> float:
        """Return the time in seconds."""

    def later(self, delay: float, action: Work) -> Handle:
        """Do something after so many seconds."""

    def close(self) -> None:
        """Let nothing more happen."""


class _Appointment:
    """An action at a time, until it is cancelled."""

    def __init__(self, action: Work) -> None:
        self.action: Work | None = action

    def cancel(self) -> None:
        self.action = None


class Timer:
    """The clock on the wall, with one thread for all that is to happen."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, _Appointment]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def now(self) -> float:
        """Return the time in seconds."""
        return time.monotonic()

    def later(self, delay: float, action: Work) -> Handle:
        """Do something after so many seconds, in the timer's thread."""
        appointment = _Appointment(action)
        with self._changed:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="ngff-timer", daemon=True)
                self._thread.start()
            heapq.heappush(self._due, (self.now() + delay, next(self._numbers), appointment))
            self._changed.notify()
        return appointment

    def stop(self) -> None:
        """Let nothing more happen: the thread ends."""
        with self._changed:
            self._closed = True
            self._due.clear()
            self._changed.notify()

    def close(self) -> None:
        """Stop, and wait a moment for the thread."""
        self.stop()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=_MOMENT)

    def _run(self) -> None:
        while (action := self._next()) is not None:
            try:
                action()
            except Exception:
                _log.exception("a timed action of the viewer failed")
            del action

    def _next(self) -> Work | None:
        with self._changed:
            is_resting = False
            while not self._closed and not (is_resting and not self._due):
                while self._due and self._due[0][2].action is None:
                    heapq.heappop(self._due)
                wait = self._due[0][0] - self.now() if self._due else _REST
                if wait > 0:
                    is_resting = not self._changed.wait(wait)
                elif (action := heapq.heappop(self._due)[2].action) is not None:
                    return action
            self._thread = None
            return None
