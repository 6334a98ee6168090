"""A store on a loopback port, for viewers in a browser and programs that read HTTP."""

from __future__ import annotations

import hmac
import html
import secrets
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote

from ngff_xarray.errors import NgffError, StoreError
from ngff_xarray.export.objects import Objects, byte_range
from ngff_xarray.export.places import source_of
from ngff_xarray.store import Source

_HOST = "127.0.0.1"
_IDLE = 120.0  # seconds after which a connection without a request is closed
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Allow-Private-Network": "true",
    "Access-Control-Expose-Headers": "Accept-Ranges, Content-Length, Content-Range",
    "Access-Control-Max-Age": "600",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}


class Served:
    """A store that is being served, until it is closed or its context is left.

    Parameters
    ----------
    source
        The place in a store.
    port
        The port, 0 for a free one.
    documents
        Served in place of what stands under these keys.

    Attributes
    ----------
    url
        Its address. Whoever knows it can read the store: the path holds 256 random bits. It is
        served to this machine only.

    Examples
    --------
    >>> import zarr
    >>> with Served(Source(zarr.storage.MemoryStore(), "", "memory")) as served:
    ...     served.url
    'http://127.0.0.1:.../memory'
    """

    def __init__(
        self, source: Source, port: int = 0, documents: Mapping[str, bytes] | None = None
    ) -> None:
        name = source.url.rstrip("/\\").replace("\\", "/").rpartition("/")[2] or "store"
        token = secrets.token_urlsafe(32)
        try:
            self._server = _Server(port, Objects(source, documents), (token, name))
        except (OSError, OverflowError) as error:
            raise StoreError(f"cannot serve on port {port}: {error}") from error
        self.url = f"http://{_HOST}:{self._server.server_port}/{token}/{quote(name, safe='')}"
        self._said = source.url
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="ngff serve", daemon=True
        )
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether it is no longer served."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """Serve it no longer; connections that are open are ended."""
        if self.closed:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.end_connections()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self._said} {'was' if self.closed else 'is'} served at {self.url}>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"


def serve(
    source: Any,
    *,
    port: int = 0,
    storage_options: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> Served:
    """Put a store on a port of this machine, for viewers in the browser and other programs.

    It is read when it is asked for, be it a directory, a zip file, remote or in memory: an S3
    bucket with credentials, too, which are not handed on. Ranges are answered, as sharded arrays
    need them, and pages from anywhere may read it (CORS) if they know the address. Only this
    machine can connect.

    Parameters
    ----------
    source
        A tree as it was opened, a path or URL, or a zarr group or store.
    port
        The port; by default a free one.
    storage_options, trust
        As of `xarray.open_datatree`, where ``source`` is a URL.

    Returns
    -------
    Served
        Its ``.url`` is the address. A context manager; without one, ``.close()`` ends it, or the
        end of the program.

    Raises
    ------
    StoreError
        If there is no store, or the port is taken.
    UnsupportedError
        If the tree was cropped or computed: write it first.

    Examples
    --------
    >>> import ngff_xarray, xarray as xr
    >>> with serve(ngff_xarray.sample("cell")) as served:
    ...     xr.open_datatree(served.url, engine="ngff").ngff.levels[0].sizes["x"]
    550
    """
    return Served(source_of(source, storage_options=storage_options, trust=trust), port)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = False

    def __init__(self, port: int, objects: Objects, below: tuple[str, str]) -> None:
        self.objects, self.below = objects, below
        self._open: set[socket.socket] = set()
        self._running: set[threading.Thread] = set()
        self._lock = threading.Lock()
        super().__init__((_HOST, port), _Handler)

    def server_bind(self) -> None:
        """Take the port; HTTPServer asks for the name of the host besides, which can take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = _HOST, int(self.server_address[1])

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
            self._running.add(threading.current_thread())
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._open.discard(request)
                self._running.discard(threading.current_thread())

    def end_connections(self) -> None:
        """End all connections, and wait for those who answer on them."""
        with self._lock:
            connections, threads = list(self._open), list(self._running)
        for connection in connections:
            with suppress(OSError):  # it has just ended
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(5)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients come and go."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "ngff_xarray", ""
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = _IDLE
    server: _Server

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_OPTIONS(self) -> None:
        self._send(HTTPStatus.NO_CONTENT)

    def _answer(self) -> None:
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # what follows is no request
        key = self._key()
        if key is None:
            self._send(HTTPStatus.NOT_FOUND)
            return
        try:
            self._send_object(key)
        except (ConnectionError, TimeoutError):
            raise
        except NgffError as error:
            self._send(HTTPStatus.BAD_GATEWAY, body=str(error).encode())
        except Exception as error:  # whatever the libraries below raise; it may hold secrets
            self._send(HTTPStatus.BAD_GATEWAY, body=type(error).__name__.encode())

    def _key(self) -> str | None:
        """Return the key that is asked for, None where there can be none."""
        path = self.path.partition("?")[0]
        first, *names = [unquote(each, errors="replace") for each in path.split("/")]
        token, name = self.server.below
        known = names[0].encode() if names else b""
        if first or not hmac.compare_digest(known, token.encode()) or names[1:2] != [name]:
            return None
        return self.server.objects.key(names[2:])

    def _send_object(self, key: str) -> None:
        objects = self.server.objects
        asked = self.headers.get("Range")
        if self.command == "HEAD" or asked is not None:
            size = objects.size(key)
            if size is None:
                self._send(HTTPStatus.NOT_FOUND)
                return
            if self.command == "HEAD":
                self._send(HTTPStatus.OK, key, length=size)
                return
            part = byte_range(asked, size)
            if part is not None:
                self._send_part(key, part, size)
                return
        found = objects.read(key)
        if found is None:
            self._send(HTTPStatus.NOT_FOUND)
        else:
            self._send(HTTPStatus.OK, key, body=found)

    def _send_part(self, key: str, part: range, size: int) -> None:
        if not part:
            headers = {"Content-Range": f"bytes */{size}"}
            self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=headers)
            return
        found = self.server.objects.read(key, part)
        if found is None or len(found) != len(part):  # it changed meanwhile
            self.server.objects.forget(key)
            raise StoreError("the object was changed while it was read")
        headers = {"Content-Range": f"bytes {part.start}-{part.stop - 1}/{size}"}
        self._send(HTTPStatus.PARTIAL_CONTENT, key, body=found, headers=headers)

    def _send(
        self,
        status: HTTPStatus,
        key: str | None = None,
        *,
        body: bytes = b"",
        length: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        kind = "text/plain; charset=utf-8" if key is None else _content_type(key)
        own = {"Content-Type": kind} if body or key else {}
        if status != HTTPStatus.NO_CONTENT:
            own["Content-Length"] = str(len(body) if length is None else length)
        for name, value in {**_CORS, "Accept-Ranges": "bytes", **own, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the path is a secret."""


def _content_type(key: str) -> str:
    """Return what an object is; never a page, which a browser would run."""
    name = key.rpartition("/")[2]
    is_json = name.endswith(".json") or name in (".zattrs", ".zarray", ".zgroup", ".zmetadata")
    return "application/json" if is_json else "application/octet-stream"
