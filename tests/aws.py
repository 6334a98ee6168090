"""A stand-in for AWS on loopback: a bucket of one region, under the names that AWS has for it."""

from __future__ import annotations

import re
import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from servers import Answer, Ask, CountingServer

_HOST = re.compile(r"(?:(?P<bucket>.+)\.)?s3(?:[.-](?P<region>[a-z0-9-]+))?\.amazonaws\.com")
_SCOPE = re.compile(r"Credential=[^/]+/\d+/([^/]+)/s3/")
_ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{}</Code><Message>{}</Message>{}</Error>'
)
NAMES = ["*.amazonaws.com", "*.s3.amazonaws.com"]


class Aws(CountingServer):
    """A server of the buckets in a folder, all of one region, to be reached through its proxy.

    It answers as AWS does: 301 where a bucket is asked for at another region's host, 400 where a
    request is signed for another region; both name the right one in a header.
    """

    def __init__(self, root: Path, region: str, authority: Any) -> None:
        regions = ("us-east-1", "us-west-2", region)
        names = [f"*.{part}{each}.amazonaws.com" for each in regions for part in ("", "s3.")]
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*NAMES, *names).configure_cert(tls)
        super().__init__(root, tls=tls)
        self.region = region
        self.tells = True  # where the bucket is
        self.hosts: list[str] = []
        self.signed: list[bool] = []

    def answer(self, ask: Ask, fault: int | str | None) -> Answer:
        """Answer as the host that is asked for."""
        host = ask.headers.get("host", "").partition(":")[0]
        self.hosts.append(host)
        match = _HOST.fullmatch(host)
        assert match is not None, host
        bucket, region = match["bucket"], match["region"] or "us-east-1"
        if bucket:
            ask = replace(ask, path=f"/{bucket}{ask.path}")
        scope = _SCOPE.search(ask.headers.get("authorization", ""))
        self.signed.append(
            scope is not None or (ask.method == "HEAD" and not ask.path.count("/", 1))
        )
        if region != self.region:
            right = f"s3.{self.region}.amazonaws.com"
            more = f"<Endpoint>{right}</Endpoint>"
            said = "The bucket you are attempting to access must be addressed using the endpoint."
            return self._error(ask, 301, "PermanentRedirect", said, more)
        if scope is not None and scope[1] != self.region:
            said = f"the region '{scope[1]}' is wrong; expecting '{self.region}'"
            more = f"<Region>{self.region}</Region>"
            return self._error(ask, 400, "AuthorizationHeaderMalformed", said, more)
        if ask.path.strip("/").count("/") == 0:
            return Answer(HTTPStatus.OK, {"x-amz-bucket-region": self.region})
        return super().answer(ask, fault)

    def _error(self, ask: Ask, status: int, code: str, said: str, more: str) -> Answer:
        body = b"" if ask.method == "HEAD" else _ERROR.format(code, said, more).encode()
        headers: dict[str, str | int] = {"Content-Type": "application/xml"}
        if self.tells:
            headers["x-amz-bucket-region"] = self.region
        return Answer(status, headers, body)


class _Tunnel(socketserver.BaseRequestHandler):
    """Carries what a client says to whatever host to the one server that there is."""

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.request.recv(4096)
        port = urlsplit(self.server.target).port  # type: ignore[attr-defined]
        with socket.create_connection(("127.0.0.1", port)) as there:
            self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            ends = {self.request: there, there: self.request}
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    try:
                        part = end.recv(2**16)
                    except ConnectionError:
                        return
                    if not part:
                        return
                    ends[end].sendall(part)


@contextmanager
def proxy(server: CountingServer) -> Iterator[str]:
    """The URL of a proxy through which every host is one server."""
    socketserver.ThreadingTCPServer.daemon_threads = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Tunnel) as found:
        found.target = server.url  # type: ignore[attr-defined]
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_address[1]}"
        found.shutdown()
