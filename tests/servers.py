"""A loopback HTTP server that serves a folder and remembers every request."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from http.client import responses
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote

_SINGLE_RANGE = re.compile(r"bytes=(?:(\d+)-(\d*)|-(\d+))")


@dataclass(frozen=True)
class Request:
    """One answered request.

    Parameters
    ----------
    method
        HTTP method, e.g. ``"GET"``.
    path
        Decoded path without the query, with its leading slash.
    range
        Value of the ``Range`` header as sent, or None.
    status
        Status code of the answer.
    nbytes
        Length of the body sent, in bytes; 0 for HEAD and for errors.
    start, end
        Seconds on `time.perf_counter` when the request had been read and when its answer was
        ready. The request is recorded before its first byte leaves, so a client that has its
        answer always finds it in the record.
    query
        What followed the path, as sent.
    """

    method: str
    path: str
    range: str | None
    status: int
    nbytes: int
    start: float
    end: float
    query: str = ""


def depth(requests: Iterable[Request]) -> int:
    """Length of the longest chain of requests that do not overlap in time."""
    chain, last_end = 0, float("-inf")
    for request in sorted(requests, key=lambda request: request.end):
        if request.start >= last_end:
            chain, last_end = chain + 1, request.end
    return chain


def max_concurrent(requests: Iterable[Request]) -> int:
    """Largest number of requests that were under way at one time."""
    edges = [edge for each in requests for edge in ((each.start, 1), (each.end, -1))]
    running = most = 0
    for _, step in sorted(edges):
        running += step
        most = max(most, running)
    return most


@dataclass(frozen=True)
class Ask:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    query: str = ""

    @property
    def body_length(self) -> int:
        return int(self.headers.get("content-length", 0))

    @property
    def closes(self) -> bool:
        return self.headers.get("connection", "").lower() == "close"


@dataclass(frozen=True)
class Answer:
    """What is sent for it."""

    status: int
    headers: dict[str, str | int]
    body: bytes = b""

    def encode(self, *, closes: bool) -> bytes:
        headers = {
            "Content-Length": len(self.body),
            "Connection": "close" if closes else "keep-alive",
            **self.headers,
        }
        lines = [f"HTTP/1.1 {self.status} {responses.get(self.status, '')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


def _parse(head: bytes) -> Ask:
    first, *rest = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    fields = (line.partition(":") for line in rest)
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    path, _, query = target.partition("?")
    return Ask(method, unquote(path), headers, query)


def _byte_range(header: str | None, size: int) -> range | None:
    """Bytes a ``Range`` header asks for: empty if out of reach, None for the whole file.

    A header that is malformed or asks for several ranges is ignored (RFC 9110, section 14.2).
    """
    match = _SINGLE_RANGE.fullmatch(header or "")
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        return range(max(0, size - int(suffix)), size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(size, int(last) + 1) if last else size)


def _find(root: Path, path: str) -> Path | None:
    """File at a URL path, or None: an object store knows no folders and no ``..`` or ``//``."""
    segments = path.removeprefix("/").split("/")
    if not path.startswith("/") or "\0" in path or {"", ".", ".."} & set(segments):
        return None
    file = root.joinpath(*segments).resolve()
    return file if file.is_relative_to(root) and file.is_file() else None


def _send_file(file: Path, ask: Ask) -> Answer:
    stat = file.stat()
    headers: dict[str, str | int] = {
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
        "ETag": f'"{stat.st_size:x}-{stat.st_mtime_ns:x}"',
        "Last-Modified": formatdate(stat.st_mtime, usegmt=True),
    }
    if ask.method == "HEAD":
        return Answer(HTTPStatus.OK, {**headers, "Content-Length": stat.st_size})
    wanted = _byte_range(ask.headers.get("range"), stat.st_size)
    if wanted is None:
        return Answer(HTTPStatus.OK, headers, file.read_bytes())
    if not wanted:
        unreachable = {"Content-Range": f"bytes */{stat.st_size}"}
        return Answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {**headers, **unreachable})
    with file.open("rb") as stream:
        stream.seek(wanted.start)
        body = stream.read(len(wanted))
    headers["Content-Range"] = f"bytes {wanted[0]}-{wanted[-1]}/{stat.st_size}"
    return Answer(HTTPStatus.PARTIAL_CONTENT, headers, body)


class CountingServer:
    """A static HTTP/1.1 server on 127.0.0.1, running while its context is entered.

    It answers GET and HEAD as an object store does: single ranges, kept-alive connections, no
    listing (a folder is 404), nothing outside `root`.

    Parameters
    ----------
    root
        Folder to serve.
    latency
        Seconds that each request waits before its answer.
    tls
        Makes it speak https.

    Attributes
    ----------
    url
        Address of `root` once the context is entered, without a trailing slash.
    requests
        The requests answered so far, in the order of their answers.
    failures
        Status to answer instead, by path as in `Request.path`, e.g. ``{"/zarr.json": 503}``.
    faults
        What goes wrong with the next requests of a path, one after another: a status, or
        ``"reset"`` (the connection), ``"short"`` (half of the body), ``"hang"`` (no answer),
        ``"page"`` (of HTML instead), ``"whole"`` (whatever range was asked for), ``"to URL"`` (a
        redirection). Then all is well again. A path of ``"*"`` is every path.
    query
        What must follow the path of every request, None for anything; others are forbidden.

    Examples
    --------
    >>> from urllib.request import urlopen
    >>> with CountingServer(Path(__file__).parent) as server:
    ...     module = urlopen(f"{server.url}/servers.py").read()
    >>> server.count, server.misses
    (1, 0)
    """

    def __init__(self, root: Path, latency: float = 0.0, tls: ssl.SSLContext | None = None) -> None:
        self.root = root.resolve()
        self.latency = latency
        self.tls = tls
        self.failures: dict[str, int] = {}
        self.faults: dict[str, list[int | str]] = {}
        self.query: str | None = None
        self.requests: list[Request] = []
        self._conversations: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """Number of requests answered."""
        return len(self.requests)

    @property
    def misses(self) -> int:
        """Number of requests answered with an error status."""
        return sum(request.status >= HTTPStatus.BAD_REQUEST for request in self.requests)

    @property
    def depth(self) -> int:
        """Length of the longest chain of requests that do not overlap in time."""
        return depth(self.requests)

    @property
    def max_concurrent(self) -> int:
        """Largest number of requests that were under way at one time."""
        return max_concurrent(self.requests)

    def clear(self) -> None:
        """Forget the requests answered so far."""
        self.requests.clear()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        host, port = self._listener.getsockname()
        self.url = f"http{'s' if self.tls else ''}://{host}:{port}"
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="CountingServer", daemon=True
        )
        self._thread.start()
        start = asyncio.start_server(
            self._converse, sock=self._listener, backlog=1024, ssl=self.tls
        )
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        # Closing the server at once would leak the sockets of connections being accepted: these
        # are left to become conversations, which are ended.
        self._loop.remove_reader(self._listener)
        while len(asyncio.all_tasks()) > 1:
            for conversation in self._conversations:
                conversation.cancel()
            await asyncio.sleep(0)
        self._server.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.current_task()
        assert conversation is not None
        self._conversations.add(conversation)
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while await self._exchange(reader, writer):
                pass
        except asyncio.CancelledError:
            # Not raised again: asyncio of Python 3.11 reports a cancelled handler as a fault.
            writer.transport.abort()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            self._conversations.discard(conversation)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection stays open after one request and its answer."""
        ask = _parse(await reader.readuntil(b"\r\n\r\n"))
        start = time.perf_counter()
        await reader.readexactly(ask.body_length)
        await asyncio.sleep(self.latency)
        fault = self._next_fault(ask.path) if ask.method == "GET" else None
        if fault == "hang":
            await asyncio.sleep(3600)
        answer = self.answer(ask, fault)
        self.requests.append(
            Request(
                method=ask.method,
                path=ask.path,
                range=ask.headers.get("range"),
                status=int(answer.status),
                nbytes=len(answer.body),
                start=start,
                end=time.perf_counter(),
                query=ask.query,
            )
        )
        if fault == "reset":
            writer.transport.abort()
            return False
        encoded = answer.encode(closes=ask.closes)
        if fault == "short":
            encoded = encoded[: len(encoded) - len(answer.body) // 2 - 1]
        writer.write(encoded)
        await writer.drain()
        return not ask.closes and fault != "short"

    def _next_fault(self, path: str) -> int | str | None:
        planned = self.faults.get(path) or self.faults.get("*")
        return planned.pop(0) if planned else None

    def answer(self, ask: Ask, fault: int | str | None) -> Answer:
        """Return what to send for a request."""
        if self.query not in (None, ask.query):
            fault = HTTPStatus.FORBIDDEN
        if isinstance(fault, int):
            return Answer(fault, {})
        if fault == "page":
            return Answer(HTTPStatus.OK, {"Content-Type": "text/html"}, b"<!DOCTYPE html>\n<p>no")
        if fault == "whole":
            ask.headers.pop("range", None)
        if fault and fault.startswith("to "):
            return Answer(HTTPStatus.FOUND, {"Location": fault[3:]})
        if ask.path in self.failures:
            return Answer(self.failures[ask.path], {})
        if ask.method not in {"GET", "HEAD"}:
            return Answer(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET, HEAD"})
        file = _find(self.root, ask.path)
        return Answer(HTTPStatus.NOT_FOUND, {}) if file is None else _send_file(file, ask)
