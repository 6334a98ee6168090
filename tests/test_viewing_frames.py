"""Frames: latest wins, nothing starves, coarse first, small messages; in a time of our own."""

from __future__ import annotations

import gc
import heapq
import itertools
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ngff_xarray.viewing import TileServer, View, World, home_view, make_world, planning
from ngff_xarray.viewing.encoding import label_runs
from ngff_xarray.viewing.frames import Frames
from ngff_xarray.viewing.planning import Plan, TileSpec
from ngff_xarray.viewing.tiles import LabelRuns, Tile

PAINT = 0.020


class Time:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._due: list[tuple[float, int, list[Callable[[], None] | None]]] = []
        self._numbers = itertools.count()
        self.is_closed = False

    def now(self) -> float:
        return self.seconds

    def later(self, delay: float, action: Callable[[], None]) -> Any:
        heapq.heappush(self._due, (self.seconds + delay, next(self._numbers), [action]))

    def close(self) -> None:
        self.is_closed = True

    def run(self, until: float) -> None:
        """Let happen what is due until then."""
        while self._due and self._due[0][0] <= until:
            self.seconds, _, (action,) = heapq.heappop(self._due)
            assert action is not None
            action()
        self.seconds = until

    def go(self, seconds: float) -> None:
        self.run(self.seconds + seconds)


@dataclass
class FakeServer:
    """Plans like a server; draws in no time of ours: a few tiles at once, each so many seconds."""

    world: World
    time: Time
    seconds: float = 0.010
    lanes: int = 2
    nbytes: int = 1000
    coarse_seconds: float = 0.005
    failing: set[tuple[int, int]] = field(default_factory=set)
    """Rows and columns of tiles that cannot be read."""

    def __post_init__(self) -> None:
        self.kept: dict[Any, Tile] = {}
        self.queue: list[TileSpec] = []
        self.done: dict[Any, list[tuple[TileSpec, Callable[[Tile], None]]]] = {}
        self.busy = 0
        self.prefetched: list[View] = []
        self.started: list[TileSpec] = []

    def plan(self, view: View) -> Plan:
        return planning.plan(self.world, view)

    def start(self, spec: TileSpec, done: Callable[[Tile], None], *, urgent: bool = False) -> None:
        if spec.content in self.kept:
            done(replace(self.kept[spec.content], spec=spec))
            return
        if spec.content in self.done:
            self.done[spec.content].append((spec, done))
            return
        self.done[spec.content] = [(spec, done)]
        if urgent:
            self.time.later(self.coarse_seconds, lambda: self._finish(spec))
        else:
            self.queue.append(spec)
            self._work()

    def _work(self) -> None:
        while self.queue and self.busy < self.lanes:
            spec = self.queue.pop(0)
            self.started.append(spec)
            self.busy += 1
            self.time.later(self.seconds, lambda spec=spec: self._finish(spec, lane=True))

    def _finish(self, spec: TileSpec, *, lane: bool = False) -> None:
        self.busy -= lane
        tile = Tile(spec, "jpeg", bytes(self.nbytes))
        if (spec.row, spec.column) in self.failing:
            tile = Tile(spec, "error", message="the chunk is broken")
        else:
            self.kept[spec.content] = tile
        for asked, done in self.done.pop(spec.content, ()):
            done(replace(tile, spec=asked))
        self._work()

    def keep(self, specs: Iterable[TileSpec]) -> None:
        wanted = {spec.content for spec in specs}
        for spec in [spec for spec in self.queue if spec.content not in wanted]:
            self.queue.remove(spec)
            self.done.pop(spec.content, None)

    def has(self, spec: TileSpec) -> bool:
        return spec.content in self.kept

    def prefetch(self, view: View) -> None:
        self.prefetched.append(view)

    def start_labels(
        self, specs: Sequence[TileSpec], done: Callable[[Sequence[LabelRuns]], None]
    ) -> None:
        labels = np.arange(4).reshape(2, 2)
        runs = [LabelRuns(spec, 2, 2, *label_runs(labels), (1, 2, 3)) for spec in specs]
        self.time.later(0.005, lambda: done(runs))

    def properties(self, runs: LabelRuns, known: Collection[int]) -> dict[int, str]:
        return {label: f"area {label}" for label in runs.occurring if label not in known}

    def ask(self, question: Callable[[], None]) -> None:
        self.time.later(0.005, question)

    def probe(self, view: View, x: float, y: float) -> dict[str, Any]:
        return {"type": "probe", "x": x, "y": y, "values": [], "position": ""}


class Browser:
    """Paints what it is sent, and answers; it keeps the tiles of the newest state."""

    def __init__(self, time: Time, paint: float = PAINT, *, answers: str = "all") -> None:
        self.time = time
        self.paint = paint
        self.answers = answers
        self.frames: Frames
        self.messages: list[tuple[float, dict[str, Any], list[bytes]]] = []
        self.state = ""
        self.tiles: dict[str, dict[str, Any]] = {}

    def send(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        self.messages.append((self.time.now(), message, buffers))
        if message["type"] == "frame":
            if message["state"] != self.state:
                self.state, self.tiles = message["state"], {}
            self.tiles |= {tile["key"]: tile for tile in message["tiles"]}
            if self.answers == "all" or (self.answers == "complete" and message["complete"]):
                number = message["frame"]
                self.time.later(self.paint, lambda: self.frames.shown(number))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for _, message, _ in self.messages if message["type"] == kind]

    @property
    def sent(self) -> list[str]:
        """The keys of all tiles, as they came."""
        return [tile["key"] for message in self.of("frame") for tile in message["tiles"]]


@dataclass
class Stage:
    """All who take part."""

    world: World
    time: Time
    server: FakeServer
    browser: Browser
    frames: Frames
    home: View

    def want(self, view: View) -> None:
        self.frames.want(view, list(self.browser.tiles))


def stage(*, answers: str = "all", **server: Any) -> Stage:
    """A pyramid of a stack of 9 planes with labels on a canvas of 1024 pixels: 4 tiles."""
    levels = {}
    for i, size in enumerate((2048, 1024, 512)):
        step = 2048 / size
        at = (np.arange(size) + 0.5) * step
        coords = {"z": np.arange(9.0), "y": at, "x": at}
        data = np.broadcast_to(np.uint8(0), (9, size, size))
        levels[str(i)] = xr.Dataset({"image": (("z", "y", "x"), data)}, coords)
    labels = xr.DataArray(np.zeros((2, 2), "u1"), dims=("y", "x"), name="labels")
    world = make_world(xr.DataTree.from_dict(levels), labels=labels)
    time = Time()
    fake = FakeServer(world, time, **server)
    browser = Browser(time, answers=answers)
    frames = Frames(fake, browser.send, clock=time)
    browser.frames = frames
    return Stage(world, time, fake, browser, frames, home_view(world, (1024, 1024)))


def fine(plan: Plan) -> set[str]:
    return {spec.key for spec in plan.tiles}


# ---- one view ----------------------------------------------------------------------------------


def test_a_view_is_one_message_with_all_its_tiles() -> None:
    play = stage()
    play.want(play.home)
    play.time.go(1)
    (message,) = play.browser.of("frame")
    assert message["complete"]
    assert message["order"] == [layer.name for layer in play.world.layers]
    assert message["opacity"] == [1.0]
    assert message["levels"] == {"image": 1}
    assert {tile["key"] for tile in message["tiles"]} == fine(play.server.plan(play.home))
    assert {tile["level"] for tile in message["tiles"]} == {1}
    tile = message["tiles"][0]
    assert set(tile) == {"key", "layer", "level", "matrix", "width", "height", "format"}
    assert len(tile["matrix"]) == 6
    (buffers,) = [buffers for _, said, buffers in play.browser.messages if said is message]
    assert len(buffers) == len(message["tiles"])


def test_slow_tiles_come_after_a_coarse_picture() -> None:
    play = stage(seconds=0.100)
    play.want(play.home)
    play.time.go(0.065)
    (first,) = play.browser.of("frame")
    assert not first["complete"]
    assert {tile["level"] for tile in first["tiles"]} == {2}  # the coarsest
    play.time.go(1)
    messages = play.browser.of("frame")
    assert {message["frame"] for message in messages} == {1}
    assert [message["complete"] for message in messages][-1]
    assert sum(message["complete"] for message in messages) == 1
    assert fine(play.server.plan(play.home)) <= set(play.browser.sent)
    assert len(set(play.browser.sent)) == len(play.browser.sent)  # nothing twice


def test_what_is_ready_goes_with_the_coarse_picture() -> None:
    play = stage(seconds=0.050)  # two of four are ready after 60 ms
    play.want(play.home)
    play.time.go(0.065)
    (first,) = play.browser.of("frame")
    assert sorted(tile["level"] for tile in first["tiles"]) == [1, 1, 2]
    assert first["tiles"][0]["level"] == 2


def test_fast_tiles_need_no_coarse_picture() -> None:
    play = stage()
    play.want(play.home)
    play.time.go(1)
    assert {tile["level"] for message in play.browser.of("frame") for tile in message["tiles"]} == {
        1
    }


def test_what_the_browser_has_is_not_sent_again() -> None:
    play = stage()
    play.want(play.home)
    play.time.go(1)
    play.want(play.home.moved(center=(900, 1000)))
    play.time.go(1)
    last = play.browser.of("frame")[-1]
    assert last["tiles"] == []
    assert last["complete"]


def test_tiles_on_their_way_are_not_sent_again() -> None:
    play = stage()
    play.frames.want(play.home, [])
    play.time.go(0.025)  # sent, not painted
    play.frames.want(play.home, [])  # the browser does not have them yet
    play.time.go(1)
    assert len(play.browser.sent) == 4


def test_a_view_of_which_the_kernel_remembers_what_was_sent() -> None:
    play = stage()
    play.frames.want(play.home)
    play.time.go(1)
    play.frames.want(play.home.with_layer("image", opacity=0.5))
    play.time.go(1)
    last = play.browser.of("frame")[-1]
    assert (last["tiles"], last["opacity"]) == ([], [0.5])


def test_an_evicted_tile_is_sent_again() -> None:
    play = stage()
    play.want(play.home)
    play.time.go(1)
    lost = play.browser.sent[0]
    del play.browser.tiles[lost]
    play.want(play.home)
    play.time.go(1)
    assert [tile["key"] for tile in play.browser.of("frame")[-1]["tiles"]] == [lost]


def test_messages_are_below_a_megabyte() -> None:
    play = stage(nbytes=400_000)
    play.want(play.home)
    play.time.go(1)
    sizes = [sum(map(len, buffers)) for _, _, buffers in play.browser.messages]
    assert max(sizes) < 1_000_000
    frames = play.browser.of("frame")
    assert [message["complete"] for message in frames] == [False, True]
    assert {message["frame"] for message in frames} == {1}
    assert len(set(play.browser.sent)) == 4


# ---- many views --------------------------------------------------------------------------------


def drag(play: Stage, moves: int = 40, seconds: float = 0.600) -> float:
    """Many changes of z, each another state; the time of the last."""
    for i in range(moves):
        play.time.run(play.time.seconds if i == 0 else i * seconds / moves)
        play.want(play.home.at(z=float(i % 9)).with_channel("image", "0", window=(0.0, 1.0 + i)))
    return play.time.now()


@pytest.mark.parametrize("seconds", [0.002, 0.010, 0.020, 0.050, 0.150])
def test_a_drag_shows_many_frames_and_settles_soon(seconds: float) -> None:
    play = stage(seconds=seconds, coarse_seconds=max(seconds / 4, 0.002))
    last = drag(play)
    seen = {said["frame"] for at, said, _ in play.browser.messages if said["type"] == "frame"}
    assert len(seen) >= 9
    play.time.go(3)
    complete = [at for at, said, _ in play.browser.messages if said.get("complete")]
    # what is in flight, its painting, and the tiles of the last view: two lanes, four tiles
    assert max(complete) - last <= max(0.150, 0.090 + 3 * seconds)
    assert fine(play.server.plan(play.server.prefetched[-1])) <= set(play.browser.sent)


def test_the_newest_view_wins() -> None:
    play = stage()
    for z in range(9):
        play.want(play.home.at(z=float(z)))
    play.time.go(1)
    states = dict.fromkeys(message["state"] for message in play.browser.of("frame"))
    expected = [play.server.plan(play.home.at(z=z)).state for z in (0.0, 8.0)]
    assert list(states) == expected  # the first, which was in flight, and the newest


def test_a_view_that_waited_is_coarse_first_unless_its_tiles_are_drawn() -> None:
    play = stage()
    for drawn in (False, True):
        before = len(play.browser.of("frame"))
        play.want(play.home.at(z=1.0))
        play.want(play.home.at(z=2.0))
        play.time.go(1)
        levels = [
            sorted(tile["level"] for tile in message["tiles"])
            for message in play.browser.of("frame")[before:]
        ]
        fine = [1, 1, 1, 1]
        assert levels == ([fine, fine] if drawn else [fine, [2], fine])


def test_one_view_is_in_flight_until_it_is_shown() -> None:
    play = stage(answers="none")
    play.want(play.home.at(z=0.0))
    play.time.go(0.1)
    play.want(play.home.at(z=1.0))
    play.time.go(0.5)
    assert len(play.browser.of("frame")) == 1
    play.frames.shown(1)
    play.time.go(0.1)
    assert {message["frame"] for message in play.browser.of("frame")} == {1, 2}


def test_a_lost_answer_is_survived_after_a_second() -> None:
    play = stage(answers="none")
    play.want(play.home.at(z=0.0))
    play.time.go(0.1)
    play.want(play.home.at(z=1.0))
    play.time.go(1.1)
    assert {message["frame"] for message in play.browser.of("frame")} == {1, 2}


def test_answers_about_other_frames_mean_nothing() -> None:
    play = stage(answers="none")
    play.want(play.home.at(z=0.0))
    play.time.go(0.1)
    play.want(play.home.at(z=1.0))
    for number in (0, 2, 99, "1", None, 1.5):
        play.frames.shown(number)
    play.time.go(0.1)
    assert len(play.browser.of("frame")) == 1


def test_a_view_is_not_cancelled_before_something_of_it_was_shown() -> None:
    play = stage(seconds=0.200, coarse_seconds=0.1)
    play.want(play.home.at(z=0.0))
    play.time.go(0.010)
    play.want(play.home.at(z=1.0))
    play.time.go(3)
    numbers = [message["frame"] for message in play.browser.of("frame")]
    assert numbers[0] == 1
    assert not play.browser.of("frame")[0]["complete"]
    assert play.browser.of("frame")[-1]["complete"]
    assert play.browser.of("frame")[-1]["frame"] == 2


def test_late_tiles_of_an_older_state_are_dropped() -> None:
    play = stage(seconds=0.200, lanes=4)
    play.want(play.home.at(z=0.0))
    play.time.go(0.070)  # a coarse picture of it was shown
    play.want(play.home.at(z=1.0))
    play.time.go(3)
    states = [message["state"] for message in play.browser.of("frame")]
    old, new = (play.server.plan(play.home.at(z=z)).state for z in (0.0, 1.0))
    assert states == sorted(states, key=[old, new].index)
    assert fine(play.server.plan(play.home.at(z=1.0))) <= set(play.browser.sent)
    assert not fine(play.server.plan(play.home.at(z=0.0))) & set(play.browser.sent)


def test_a_store_that_hangs_does_not_stop_the_next_view() -> None:
    play = stage(seconds=1e6, coarse_seconds=1e6, lanes=100)
    play.want(play.home.at(z=0.0))
    play.time.go(0.5)
    play.want(play.home.at(z=1.0))
    play.time.go(0.6)
    play.server.seconds = 0.010
    play.want(play.home.at(z=2.0))
    play.time.go(2)
    assert play.browser.of("frame")[-1]["complete"]
    assert play.browser.of("frame")[-1]["state"] == play.server.plan(play.home.at(z=2.0)).state


def test_a_browser_that_answers_whole_frames_only_gets_them_too() -> None:
    play = stage(seconds=0.050, answers="complete")
    drag(play)
    play.time.go(3)
    assert play.browser.of("frame")[-1]["complete"]
    assert len({message["frame"] for message in play.browser.of("frame")}) >= 3


def test_work_nobody_waits_for_is_not_begun() -> None:
    play = stage(seconds=0.050, lanes=1)
    drag(play)
    play.time.go(3)
    frames = len({message["frame"] for message in play.browser.of("frame")})
    assert len(play.server.started) < 4 * frames


moves = st.one_of(
    st.tuples(st.just("z"), st.integers(0, 8)),
    st.tuples(st.just("pan"), st.integers(0, 3)),
    st.tuples(st.just("zoom"), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.integers(0, 12)),
    st.tuples(st.just("silent"), st.booleans()),
    st.tuples(st.just("evict"), st.integers(0, 5)),
)


@settings(max_examples=60)
@given(
    st.lists(moves, max_size=30),
    st.sampled_from([0.001, 0.015, 0.040, 0.200]),
    st.integers(1, 4),
    st.sampled_from(["all", "complete"]),
)
@example([("wait", 3), ("silent", True), ("z", 0), ("z", 1), ("evict", 0)], 0.001, 1, "all")
@example([("zoom", 3), ("z", 1), ("zoom", 3), ("wait", 1), ("evict", 1)], 0.001, 1, "all")
def test_whatever_happens_the_last_view_is_seen_whole(
    what: list[tuple[str, int]], seconds: float, lanes: int, answers: str
) -> None:
    play = stage(seconds=seconds, lanes=lanes, answers=answers)
    view = play.home
    for kind, much in what:
        if kind == "wait":
            play.time.go(much * 0.010)
        elif kind == "silent":
            play.browser.answers = "none" if much else answers
        elif kind == "evict":
            play.time.go(5)  # what is on its way is not let go of: two views without an answer
            for key in list(play.browser.tiles)[much : much + 1]:
                del play.browser.tiles[key]
        elif kind == "z":
            view = view.at(z=float(much))
        elif kind == "pan":
            view = view.moved(center=(300 + 400 * much, 1000))
        elif kind == "zoom":
            view = view.moved(scale=2.0**much / 2)
        if kind in ("z", "pan", "zoom", "evict"):
            play.want(view)
    play.browser.answers = answers
    play.want(view)
    play.time.go(10)
    plan = play.server.plan(view)
    assert play.browser.state == plan.state
    assert fine(plan) <= set(play.browser.tiles)
    assert play.browser.of("frame")[-1]["complete"]
    numbers = [message["frame"] for message in play.browser.of("frame")]
    assert numbers == sorted(numbers)
    whole = [message["frame"] for message in play.browser.of("frame") if message["complete"]]
    assert len(set(whole)) == len(whole)
    sizes = [sum(map(len, buffers)) for _, _, buffers in play.browser.messages]
    assert max(sizes) < 1_000_000


# ---- once it is shown --------------------------------------------------------------------------


def test_labels_come_after_the_frame_and_once() -> None:
    play = stage()
    play.want(play.home)
    play.time.go(1)
    kinds = [message["type"] for _, message, _ in play.browser.messages]
    assert kinds == ["frame", "ids"]
    (message,) = play.browser.of("ids")
    assert {tile["key"] for tile in message["tiles"]} == fine(play.server.plan(play.home))
    assert message["tiles"][0] | {"key": ""} == {"key": "", "width": 2, "height": 2, "wide": False}
    assert message["properties"] == {"1": "area 1", "2": "area 2", "3": "area 3"}
    assert len(play.browser.messages[-1][2]) == 2 * len(message["tiles"])
    play.want(play.home)
    play.time.go(1)
    assert len(play.browser.of("ids")) == 1


def test_labels_come_again_with_a_tile_that_comes_again() -> None:
    play = stage()
    play.want(play.home)
    play.time.go(1)
    lost = play.browser.sent[0]
    del play.browser.tiles[lost]
    play.want(play.home)
    play.time.go(1)
    again = play.browser.of("ids")[-1]
    assert [tile["key"] for tile in again["tiles"]] == [lost]
    assert again["properties"] == {}  # they are known


def test_labels_wait_while_views_come() -> None:
    play = stage()
    drag(play)
    assert play.browser.of("ids") == []
    play.time.go(1)
    (message,) = play.browser.of("ids")
    assert message["state"] == play.browser.of("frame")[-1]["state"]


def test_neighbours_are_prepared_when_nothing_is_wanted() -> None:
    play = stage()
    last = drag(play)
    assert play.server.prefetched == []
    play.time.go(1)
    assert last > 0
    assert len(play.server.prefetched) == 1


# ---- what cannot be read -----------------------------------------------------------------------


def test_a_broken_chunk_is_one_marked_tile_and_a_note() -> None:
    play = stage(failing={(0, 1)})
    play.want(play.home)
    play.time.go(1)
    (message,) = play.browser.of("frame")
    assert message["complete"]
    failed = [tile for tile in message["tiles"] if tile["format"] == "error"]
    assert [tile["message"] for tile in failed] == ["the chunk is broken"]
    (note,) = play.browser.of("note")
    assert note["text"] == "a tile could not be read: the chunk is broken"


def test_a_page_that_is_loaded_again_is_told_everything() -> None:
    play = stage(failing={(0, 1)})
    play.want(play.home)
    play.time.go(1)
    before = [play.browser.of("ids")[0]["properties"], play.browser.of("note")]
    play.browser.tiles.clear()
    play.browser.messages.clear()
    play.want(play.home)
    play.time.go(1)
    assert [play.browser.of("ids")[0]["properties"], play.browser.of("note")] == before
    assert play.browser.of("frame")[-1]["complete"]


def test_it_is_tried_again_after_a_while() -> None:
    play = stage(failing={(0, 1)})
    play.want(play.home)
    play.time.go(1)
    play.want(play.home)
    play.time.go(1)
    assert play.browser.of("frame")[-1]["tiles"] == []
    play.server.failing.clear()
    play.time.go(5)
    play.want(play.home)
    play.time.go(1)
    (tile,) = play.browser.of("frame")[-1]["tiles"]
    assert tile["format"] == "jpeg"
    assert [note["text"] for note in play.browser.of("note")][-1] == ""


def test_an_empty_world_has_a_complete_frame() -> None:
    world = make_world(xr.DataArray(np.zeros((0, 5), "u1"), dims=("y", "x")))
    time = Time()
    browser = Browser(time)
    browser.frames = Frames(FakeServer(world, time), browser.send, clock=time)
    browser.frames.want(home_view(world))
    time.go(1)
    (message,) = browser.of("frame")
    assert (message["complete"], message["tiles"], message["order"]) == (True, [], [])


def test_an_event_that_fails_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    play = stage()
    monkeypatch.setattr(play.server, "plan", lambda view: 1 / 0)
    play.want(play.home)
    monkeypatch.undo()
    play.want(play.home)
    play.time.go(1)
    assert play.browser.of("frame")[-1]["complete"]
    notes = [message["text"] for message in play.browser.of("note")]
    assert notes == ["this view cannot be drawn", ""]
    assert "failed" in caplog.text


# ---- questions ---------------------------------------------------------------------------------


def test_of_many_questions_the_newest_is_answered() -> None:
    play = stage()
    play.want(play.home)
    for x in range(10):
        play.frames.probe(x, 0)
    play.time.go(1)
    assert [message["x"] for message in play.browser.of("probe")] == [0.0, 9.0]


# ---- threads -----------------------------------------------------------------------------------


def test_nothing_is_sent_after_closing() -> None:
    play = stage()
    play.want(play.home)
    play.frames.close()
    play.time.go(1)
    assert play.browser.messages == []
    assert play.time.is_closed


def test_a_loop_that_was_closed_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    play = stage()

    def closed(action: Callable[[], None]) -> None:
        raise RuntimeError("Event loop is closed")

    frames = Frames(play.server, play.browser.send, call_soon=closed, clock=play.time)
    frames.want(play.home)
    play.time.go(1)
    assert play.browser.messages == []
    assert "failed" not in caplog.text


@pytest.fixture
def real() -> Iterator[tuple[TileServer, View]]:
    rng = np.random.default_rng(0)
    array = xr.DataArray(rng.integers(0, 255, (4, 600, 600), "u1"), dims=("z", "y", "x"))
    world = make_world(array)
    server = TileServer(world)
    yield server, home_view(world, (600, 600))
    server.close()


def test_threads_end_when_all_is_closed(real: tuple[TileServer, View]) -> None:
    server, home = real
    before = set(threading.enumerate())
    done = threading.Event()
    frames = Frames(server, lambda message, buffers: done.set())
    frames.want(home)
    assert done.wait(30)
    assert set(threading.enumerate()) - before
    frames.close()
    server.close()
    assert not set(threading.enumerate()) - before


def test_threads_end_when_all_is_forgotten() -> None:
    before = set(threading.enumerate())
    world = make_world(xr.DataArray(np.zeros((50, 50), "u1"), dims=("y", "x")))
    server, done = TileServer(world), threading.Event()
    frames = Frames(server, lambda message, buffers: done.set())
    frames.want(home_view(world))
    assert done.wait(30)
    frames.shown(1)
    reference = weakref.ref(server)
    del frames, server
    done.clear()
    for _ in range(20):
        gc.collect()
        if not set(threading.enumerate()) - before:
            break
        done.wait(0.5)  # what is to happen within a second still knows the frames
    assert reference() is None
    assert not set(threading.enumerate()) - before


def test_views_wanted_by_many_threads_at_once(real: tuple[TileServer, View]) -> None:
    server, home = real
    lock, settled = threading.Lock(), threading.Event()
    numbers: list[int] = []
    wanted = home.at(z=3.0).with_channel("image", "0", window=(0.0, 7.0))
    final = server.plan(wanted).state

    def send(message: dict[str, Any], buffers: list[bytes]) -> None:
        assert lock.acquire(blocking=False), "two threads send at once"
        if message["type"] == "frame":
            numbers.append(message["frame"])
            frames.shown(message["frame"])
            if message["state"] == final and message["complete"]:
                settled.set()
        lock.release()

    frames = Frames(server, send)

    def many(seed: int) -> None:
        for i in range(25):
            frames.want(home.at(z=float((i + seed) % 4)))

    threads = [threading.Thread(target=many, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    frames.want(wanted)
    assert settled.wait(30)
    frames.close()
    assert numbers == sorted(numbers)
