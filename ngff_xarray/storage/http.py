"""HTTP as fsspec has it, with sessions of our own: few connections, and no way to another host."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from ngff_xarray.storage.access import CONNECTIONS
from ngff_xarray.storage.faults import RemoteAnswerError
from ngff_xarray.text import printable
from ngff_xarray.urls import divided

if TYPE_CHECKING:
    import aiohttp

_CONNECT = 20.0  # seconds until a host that does not answer is given up


def with_query(url: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a URL without its query, and options by which every request has it.

    Keys of a store stand below the path, so that a token must come behind each of them.
    """
    place, query = divided(url)
    if not query:
        return url, options
    given = options.get("params") or {}
    given = list(given.items() if isinstance(given, Mapping) else given)
    return place, {**options, "params": [*given, *parse_qsl(query, keep_blank_values=True)]}


async def session(loop: Any = None, **options: Any) -> aiohttp.ClientSession:
    """Return a session that follows no redirection to another host; for fsspec's ``get_client``."""
    return _session(loop, options, follows=False)


async def trusting_session(loop: Any = None, **options: Any) -> aiohttp.ClientSession:
    """Return a session that follows redirections anywhere."""
    return _session(loop, options, follows=True)


def _session(loop: Any, options: dict[str, Any], *, follows: bool) -> aiohttp.ClientSession:
    import aiohttp

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(_check_range)
    if not follows:
        trace.on_request_redirect.append(_check_host)
    made: dict[str, Any] = {
        "connector": aiohttp.TCPConnector(limit=CONNECTIONS, loop=loop),
        # how long a whole answer may take is the guard's to say
        "timeout": aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT),
        "loop": loop,
    }
    traces = [*options.pop("trace_configs", ()), trace]
    return aiohttp.ClientSession(**{**made, **options, "trace_configs": traces})


async def _check_host(
    session: aiohttp.ClientSession,
    context: SimpleNamespace,
    params: aiohttp.TraceRequestRedirectParams,
) -> None:
    import yarl

    target = params.url.join(yarl.URL(params.response.headers.get("Location", "")))
    if target.host != params.url.host:
        host = printable(target.host or "", 100)
        raise RemoteAnswerError(
            f"the server sends to another host, {host}: pass trust=True if that is right"
        )
    if params.url.scheme == "https" and target.scheme != "https":
        raise RemoteAnswerError(
            "the server sends from https to a connection that is not secure: ask whoever runs it "
            "for an https address"
        )


async def _check_range(
    session: aiohttp.ClientSession,
    context: SimpleNamespace,
    params: aiohttp.TraceRequestEndParams,
) -> None:
    wanted = params.headers.get("Range", "")
    # from the start, all of it may be what was asked for: its length tells
    if params.response.status == 200 and wanted and not wanted.startswith("bytes=0-"):
        raise RemoteAnswerError(
            "the server ignores ranges: it sent all of the file: take a server that knows them, or "
            "copy the file to a disk"
        )
