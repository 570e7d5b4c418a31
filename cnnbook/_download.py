"""Downloads that end: bounded in time and in bytes, whatever a server does."""

import contextlib
import http.client
import io
import os
import socket
import ssl
import string
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from cnnbook._files import permissions, remove_abandoned, temporary_prefix
from cnnbook._progress import progress_bar

_CHUNK = 1 << 16
_AROUND = 1 << 20  # bytes of headers, redirects and chunk sizes, beside the file itself
_REDIRECTS = 5
_SLOWEST = 500  # bytes per second; less is as good as nothing
_T = TypeVar("_T")


class DownloadError(Exception):
    """A server did not deliver a file; the message says why, in one line.

    It may hold the server's own words, which are cut, and cleared of what would move a cursor.
    """

    def __init__(self, said: str):
        said = "".join(c if c.isprintable() else "�" for c in said)
        super().__init__(said if len(said) < 200 else f"{said[:200]} …")


def download(
    url: str,
    path: Path,
    check: Callable[[Path], object],
    *,
    most: int,
    stall: float = 30,
    limit: float = 4 * 3600,
) -> None:
    """Download a file, check it, and only then give it its final name.

    Redirects are followed five times, from HTTPS only to HTTPS, and never to another scheme.

    Parameters
    ----------
    url
        Address, http or https.
    path
        Where to put it. Missing folders are created.
    check
        Called with the file while it still has another name; what it raises, this raises.
    most
        Bytes that the file has at most.
    stall
        Seconds to wait for a connection, and then for more bytes; twice as long, for fewer than
        500 bytes a second.
    limit
        Seconds that all of it may take.

    Raises
    ------
    DownloadError
        If the server cannot be reached, breaks a rule, is too slow, or sends too little or too
        much.
    OSError
        If the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=temporary_prefix(path), suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            _receive(url, file, path.name, most, stall, limit)
            file.flush()
            os.fsync(file.fileno())
        check(part)
        part.chmod(permissions(path))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _receive(url: str, file: BinaryIO, name: str, most: int, stall: float, limit: float) -> None:
    limits = _Limits(most + _AROUND, stall, limit)
    received = 0
    with contextlib.closing(_asked(_open, url, limits)) as response:
        promised = _asked(_length, response.headers)
        if promised is not None and promised > most:
            raise DownloadError(f"it announces {promised:,} bytes; the file has at most {most:,}")
        with progress_bar(promised, unit="B", unit_scale=True, desc=name) as bar:
            while received != promised:
                wanted = _CHUNK if promised is None else min(_CHUNK, promised - received)
                chunk = _asked(response.read1, wanted)
                if not chunk:
                    break
                received += len(chunk)
                if received > most:
                    raise DownloadError(f"it sends more than the {most:,} bytes of the file")
                file.write(chunk)
                bar.update(len(chunk))
    if promised is not None and received < promised:
        raise DownloadError(f"it ended after {received:,} of {promised:,} bytes")


def _asked(call: Callable[..., _T], *args: Any) -> _T:
    """Call what asks the server."""
    try:
        return call(*args)
    except DownloadError:
        raise
    # Besides OSError: http.client's errors are none, and addresses raise ValueError, headers more.
    except Exception as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise DownloadError(str(reason) or type(reason).__name__) from None


def _open(url: str, limits: "_Limits") -> http.client.HTTPResponse:
    """Return the response to a request; follow redirects."""
    opener = urllib.request.OpenerDirector()  # build_opener() would add ftp:, file: and data:
    for handler in (
        urllib.request.ProxyHandler(),
        _Handler(limits),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    schemes = ("https",) if url.lower().startswith("https:") else ("http", "https")
    for _ in range(_REDIRECTS + 1):
        if urllib.parse.urlsplit(url).scheme not in schemes:
            raise DownloadError(f"{url} is not an address of {' or '.join(schemes)}")
        try:
            response: http.client.HTTPResponse = opener.open(url, timeout=limits.stall)
            return response
        except urllib.error.HTTPError as error:
            with error:
                target = error.headers.get("Location")
                if error.code not in (301, 302, 303, 307, 308) or not target:
                    raise DownloadError(f"HTTP {error.code} {error.reason}") from None
        # As in urllib: some servers send bytes that no address may have.
        target = urllib.parse.quote(target, safe=string.punctuation, encoding="iso-8859-1")
        url = urllib.parse.urljoin(url, target)
    raise DownloadError(f"it redirects more than {_REDIRECTS} times")


def _length(headers: http.client.HTTPMessage) -> int | None:
    """Return the number of bytes that a server announces, None if it does not."""
    given = headers.get_all("Content-Length")
    if not given or "Transfer-Encoding" in headers:
        return None
    if len(set(given)) > 1 or not (given[0].isascii() and given[0].isdigit()):
        raise DownloadError(f"its Content-Length is {', '.join(given):.40}")
    return int(given[0])


class _Limits:
    """How long an address may take, and how many bytes it may send, redirects included."""

    def __init__(self, most: int, stall: float, limit: float):
        self.stall = stall
        self._most, self._limit = most, limit
        self._end = time.monotonic() + limit
        self._received = 0
        self._waited, self._meanwhile = 0.0, 0

    def seconds(self) -> float:
        """Return how long to wait for the next bytes."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise DownloadError(f"it takes longer than {self._limit:,.0f} s")
        if self._waited > 2 * self.stall:
            if self._meanwhile < self._waited * _SLOWEST:
                raise DownloadError(f"it sends fewer than {_SLOWEST} bytes a second")
            self._waited, self._meanwhile = 0.0, 0
        return min(self.stall, left)

    def count(self, received: int, waited: float) -> None:
        """Count bytes that came, and the time that they took."""
        self._received += received
        self._meanwhile += received
        self._waited += waited
        if self._received > self._most:
            raise DownloadError(f"it sends more than {self._most:,} bytes")


class _Handler(urllib.request.AbstractHTTPHandler):
    """Opens http and https, within limits."""

    def __init__(self, limits: _Limits):
        super().__init__()
        self._limits = limits

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_

    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(self._limited(http.client.HTTPConnection), request)

    def https_open(self, request: urllib.request.Request) -> Any:
        connect = self._limited(http.client.HTTPSConnection)
        return self.do_open(connect, request, context=ssl.create_default_context())

    def _limited(self, connect: Callable[..., http.client.HTTPConnection]) -> Any:
        def limited(*args: Any, **options: Any) -> http.client.HTTPConnection:
            connection: Any = connect(*args, **options)
            connection.response_class = partial(_Response, limits=self._limits)
            return connection  # type: ignore[no-any-return]

        return limited


class _Response(http.client.HTTPResponse):
    """A response whose headers count as well: they may drip, or never end."""

    def __init__(self, sock: socket.socket, *args: Any, limits: _Limits, **options: Any):
        super().__init__(sock, *args, **options)
        self.fp: Any = io.BufferedReader(_Limited(self.fp.detach(), sock, limits))


class _Limited(io.RawIOBase):
    """What a socket receives, within limits."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, limits: _Limits):
        self._raw, self._sock, self._limits = raw, sock, limits

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        seconds = self._limits.seconds()
        self._sock.settimeout(seconds)
        began = time.monotonic()
        try:
            received = self._raw.readinto(buffer) or 0
        except TimeoutError:
            raise DownloadError(f"nothing came for {seconds:.3g} s") from None
        self._limits.count(received, time.monotonic() - began)
        return received

    def close(self) -> None:
        self._raw.close()
        super().close()
