"""What the libraries below raise -> what happened: a status, and whether it is worth a retry."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus

from ngff_xarray.errors import StoreError
from ngff_xarray.text import printable
from ngff_xarray.urls import hidden

_STATUS = re.compile(r"non-2xx status code: (\d{3})")  # obstore's words
_RETRIED = {408, 425, 429, 500, 502, 503, 504, 509, 529}
_DENIED = {401, 403}
_MOST_SHOWN = 300  # characters


class RemoteAnswerError(StoreError):
    """A server answered what cannot be the key's content."""


@dataclass(frozen=True)
class Fault:
    """What went wrong with a request.

    Parameters
    ----------
    text
        For people.
    is_passing
        Whether the same request may succeed soon.
    is_denied
        Whether it was refused for want of permission.
    """

    text: str
    is_passing: bool = False
    is_denied: bool = False


def fault_of(error: BaseException) -> Fault:
    """Return what an error of a store says.

    Examples
    --------
    >>> fault_of(ConnectionResetError("reset by peer"))
    Fault(text='the connection was lost: reset by peer', is_passing=True, is_denied=False)
    """
    if isinstance(error, RemoteAnswerError):
        return Fault(str(error))
    chain = list(causes(error))
    if any("<Code>NoSuchBucket<" in str(each) for each in chain):
        return Fault("there is no such bucket")
    status = next((found for each in chain if (found := _status(each))), None)
    if status is not None:
        return _of_status(status)
    text = _text(error)
    if tls := next(filter(None, map(_tls, chain)), ""):
        words = _UNTRUSTED if "certificate" in tls.lower() else _INSECURE
        return Fault(words.format(tls))
    for is_it, fault in _KINDS:
        if is_it(chain, text.lower()):
            return replace(fault, text=fault.text.format(text))
    return Fault(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it came of."""
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or getattr(error, "os_error", None) or error.__context__


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that an error of aiohttp, botocore or obstore knows."""
    status = getattr(error, "status", None)
    if isinstance(status, int) and status >= HTTPStatus.MULTIPLE_CHOICES:
        return status
    response = getattr(error, "response", None)  # of botocore
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status if isinstance(status, int) else None
    match = _STATUS.search(str(error))
    return int(match[1]) if match else None


def _of_status(status: int) -> Fault:
    try:
        name = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        name = str(status)
    return Fault(
        f"the server answered {name}", is_passing=status in _RETRIED, is_denied=status in _DENIED
    )


def _text(error: BaseException) -> str:
    """Return the first lines of what an error says; obstore adds pages of its insides."""
    said = str(error).split("\n\nDebug source", maxsplit=1)[0]
    return printable(" ".join(hidden(said).split()), _MOST_SHOWN)


def _is(chain: list[BaseException], word: str) -> bool:
    return any(word in type(each).__name__ for each in chain)


def _holds(
    chain: list[BaseException], kind: type[BaseException] | tuple[type[BaseException], ...]
) -> bool:
    return any(isinstance(each, kind) for each in chain)


_ENDED = (ssl.SSLEOFError, ssl.SSLZeroReturnError)  # a connection that was lost
# what rustls says in obstore's pages, when a handshake fails
_RUSTLS = re.compile(
    r"\b(InvalidCertificate|InvalidMessage|AlertReceived|PeerIncompatible|PeerMisbehaved)"
    r"\(\s*(\w+)"
)
_UNTRUSTED = (
    "the server's certificate is not trusted (TLS: {}); if it is the right server, let "
    "SSL_CERT_FILE (for s3fs AWS_CA_BUNDLE) name a file with the certificate of its authority "
    "before Python starts"
)
_INSECURE = "the secure connection failed (TLS: {}); does the server speak https?"


def _tls(error: BaseException) -> str:
    """Return what OpenSSL or rustls says of a handshake that failed; nothing if none did."""
    if isinstance(error, _ENDED):
        return ""
    if isinstance(error, ssl.SSLError) and type(error).__module__ == "ssl":  # what aiohttp's wrap
        said = getattr(error, "verify_message", None)
        return f"certificate: {said}" if said else getattr(error, "reason", "") or str(error)
    match = _RUSTLS.search(str(error))
    return f"{match[1]}, {match[2]}" if match else ""


_LOST = ("ClientError", "ClientPayload", "Disconnected", "ClientOSError", "EndpointConnection")
_LOST_WORDS = ("error sending request", "body error", "connection", "incomplete", "interrupted")


def _is_lost(chain: list[BaseException], text: str) -> bool:
    by_type = _holds(chain, (ConnectionError, *_ENDED)) or any(_is(chain, word) for word in _LOST)
    by_words = _is(chain, "GenericError") and any(word in text for word in _LOST_WORDS)
    return by_type or by_words


_KINDS: Sequence[tuple[Callable[[list[BaseException], str], bool], Fault]] = (
    (
        lambda chain, text: _holds(chain, PermissionError) or _is(chain, "PermissionDenied"),
        Fault("permission denied: {}", is_denied=True),
    ),
    (
        lambda chain, text: _is(chain, "Unauthenticated"),
        Fault("the credentials are refused: {}", is_denied=True),
    ),
    (
        lambda chain, text: (
            _holds(chain, socket.gaierror) or _is(chain, "DNSError") or "dns error" in str(chain[0])
        ),
        Fault("there is no such host: {}"),
    ),
    (
        lambda chain, text: "redirect without location" in text,
        Fault(
            "the bucket is in another region, and the server does not say in which: pass "
            "storage_options={{'client_kwargs': {{'region_name': …}}}}"
        ),
    ),
    (
        lambda chain, text: "range request not supported" in text or "non-partial" in text,
        Fault("the server ignores ranges: it sent all of a file for a part of it"),
    ),
    (
        lambda chain, text: _holds(chain, TimeoutError) or "timed out" in text,
        Fault("there was no answer in time", is_passing=True),
    ),
    (_is_lost, Fault("the connection was lost: {}", is_passing=True)),
)
