"""Servers that break the rules, stall, drip, lie or lead astray, before a good one.

Every kind of server is the first of two addresses, and then the only one: the file arrives, or an
error of one sentence does, in bounded time; nothing half-written is left.
"""

import gzip
import hashlib
import os
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cnnbook import _download, _files
from cnnbook.data import DataError
from cnnbook.data.files import IdxFile, fetch

CONTENT = bytes(range(256)) * 40
BODY = gzip.compress(CONTENT)
SHA = hashlib.sha256(CONTENT).hexdigest()
STALL, LIMIT = 2.0, 12.0  # seconds
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def promising(size, *more):
    return b"".join([OK, *more, b"Content-Length: %d\r\n\r\n" % size])


GOOD = promising(len(BODY)) + BODY


def redirect(location, code=302):
    return b"HTTP/1.1 %d Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (code, location)


def drip(start, each, seconds=0.05):
    """Send some bytes, and then a few again and again, without an end."""

    def send(connection):
        connection.sendall(start)
        while True:
            time.sleep(seconds)
            connection.sendall(each)

    return send


def flood(start, each):
    def send(connection):
        connection.sendall(start)
        while True:
            connection.sendall(each)

    return send


def then_wait(start):
    """Send some bytes, and keep the connection open."""

    def send(connection):
        connection.sendall(start)
        connection.settimeout(60)
        connection.recv(1)

    return send


def reset(start):
    def send(connection):
        connection.sendall(start)
        # Closed like this, a connection is reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    return send


def flipped(at):
    changed = bytearray(BODY)
    changed[at] ^= 16
    return bytes(changed)


# What a server sends. In the first group it ends at once, in the second it takes its time.
QUICK = {
    "nothing": b"",
    "no HTTP": b"garbage\r\n\r\n",
    "only a newline": b"\r\n",
    "zeros": bytes(3000),
    "HTTP/0.9": BODY,
    "HTTP/9.9": b"HTTP/9.9 200 OK\r\n\r\n" + b"x",
    "a TLS record": b"\x16\x03\x01\x02\x00" + bytes(512),
    "an FTP greeting": b"220 ready\r\n",
    "cut within the status": b"HTTP/1.1 2",
    "cut within the headers": OK + b"Content-Le",
    "odd status": b"HTTP/1.1 999999 What\r\n\r\n",
    "status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "status of a terminal": b"HTTP/1.1 404 \x1b[2Jall fine\r\n\r\n",
    "long status line": b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n\r\n",
    "long header": OK + b"X: " + b"x" * 70_000 + b"\r\n\r\n",
    "many headers": OK + b"X: x\r\n" * 200 + b"\r\n",
    "headers of bytes": OK + b"\xff\xfe: \x00\xff\r\n\xe2\x28\xa1\r\n\r\n",
    "no Content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\n\r\n",
    "partial": b"HTTP/1.1 206 Partial\r\nContent-Length: 9\r\n\r\n" + BODY[:9],
    "401": b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="x"\r\n\r\n',
    "404": b"HTTP/1.1 404 Not Found\r\n\r\n",
    "407": b"HTTP/1.1 407 Proxy\r\n\r\n",
    "429": b"HTTP/1.1 429 Slow\r\nRetry-After: 99999999\r\n\r\n",
    "503": b"HTTP/1.1 503 Busy\r\n\r\n",
    "Content-Length of letters": OK + b"Content-Length: abc\r\n\r\n" + BODY,
    "negative Content-Length": OK + b"Content-Length: -5\r\n\r\n" + BODY,
    "two Content-Lengths": promising(5, b"Content-Length: 7\r\n") + BODY,
    "Content-Length of 5,000 digits": OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "Content-Length of terabytes": promising(10**13) + BODY,
    "shorter than announced": promising(50_000) + BODY,
    "longer than announced": promising(len(BODY) - 9) + BODY,
    "chunked, cut off": CHUNKED + b"1000\r\nabc",
    "chunked, without the last": CHUNKED + b"%x\r\n" % len(BODY) + BODY[:-5],
    "chunk of no size": CHUNKED + b"xyz\r\nabc",
    "chunk of negative size": CHUNKED + b"-1\r\nabc",
    "chunk of a long size": CHUNKED + b"f" * 70_000 + b"\r\nabc",
    "encoded twice": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    "another file": OK + b"\r\n" + gzip.compress(b"other"),
    "a page": OK + b"\r\n<html>Log in</html>",
    "an empty file": promising(0),
    "no compressed file": promising(len(CONTENT)) + CONTENT,
    "a cut file": promising(len(BODY) - 20) + BODY[:-20],
    "bad deflate": OK + b"\r\n" + BODY[:10] + b"\xff" * 8,
    "a flipped bit": promising(len(BODY)) + flipped(len(BODY) // 2),
    "a flipped bit in the sum": promising(len(BODY)) + flipped(-6),
    "a bomb": OK + b"\r\n" + gzip.compress(bytes(30_000_000)),
    "more than the known size, announced": promising(300_000) + BODY + b"x" * 300_000,
    "more than the known size": OK + b"\r\n" + BODY + b"x" * 300_000,
    "redirect to itself": redirect(b"/a.gz"),
    "redirect to ever more": redirect(b"a/a.gz"),
    "redirect to nowhere": redirect(b"http://"),
    "redirect without an address": b"HTTP/1.1 302 Found\r\n\r\n",
    "redirect to a file": redirect(b"file:///etc/passwd"),
    "redirect to FTP": redirect(b"ftp://127.0.0.1/a.gz", 301),
    "redirect to data": redirect(b"data:,x", 303),
    "redirect to a port of letters": redirect(b"http://127.0.0.1:x/a.gz", 307),
    "redirect to a port above all": redirect(b"http://127.0.0.1:99999/a.gz", 308),
    "redirect to bytes": redirect(b"http://\xff\xfe\x80/\x00", 302),
    "redirect to an address in brackets": redirect(b"http://[::1/a.gz"),
    "reset at once": reset(b""),
    "reset within the headers": reset(OK),
    "reset within the file": reset(GOOD[:-100]),
}
SLOW = {
    "silent": then_wait(b""),
    "stalls within the headers": then_wait(OK),
    "stalls within the file": then_wait(GOOD[:-100]),
    "stalls within a chunk": then_wait(CHUNKED + b"1000\r\nabc"),
    "drips a status": drip(b"HTTP/1.1 200 ", b"x"),
    "drips a header": drip(OK + b"X: ", b"x"),
    "drips headers": drip(OK, b"X: x\r\n"),
    "drips the file": drip(promising(len(BODY)), b"\x1f"),
    "drips chunks": drip(CHUNKED, b"1\r\nx\r\n"),
    "drips a chunk's size": drip(CHUNKED, b"0"),
    "drips responses to come": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "drips a redirect": drip(redirect(b"/a.gz")[:-4], b"X: x\r\n"),
    "sends just fast enough, without an end": drip(OK + b"\r\n", b"x" * 50),
    "never stops sending": flood(OK + b"\r\n", bytes(60_000)),
    "never stops sending chunks": flood(CHUNKED, b"1\r\nx\r\n" * 1000),
    "never stops sending responses": flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
}


class Servers:
    """Servers on this machine, each of which sends the same to everybody."""

    def __init__(self):
        self.sockets = []

    def start(self, sends, scheme="http"):
        listening = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.sockets.append(listening)
        threading.Thread(target=self.answer, args=(listening, sends), daemon=True).start()
        return f"{scheme}://127.0.0.1:{listening.getsockname()[1]}/a.gz"

    @staticmethod
    def answer(listening, sends):
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:  # closed
                return
            with connection:
                try:
                    connection.settimeout(LIMIT)
                    if sends is not SLOW["silent"]:
                        connection.recv(4096)
                    sends(connection) if callable(sends) else connection.sendall(sends)
                except OSError:  # the reader has gone
                    pass

    def close(self):
        for listening in self.sockets:
            listening.close()


@pytest.fixture
def servers(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    servers = Servers()
    yield servers
    servers.close()


def harm_of(kind, bad, good, folder):
    """Return what two downloads did that they must not do, the second without a good address."""
    for urls in ([bad, good], [bad]):
        inside = folder / f"{len(urls)}"
        began = time.monotonic()
        try:
            path = fetch(
                IdxFile("a.gz", SHA, urls, len(CONTENT)), inside, timeout=STALL, limit=LIMIT
            )
            if len(urls) == 1:
                return f"{kind}: accepted"
            if path.read_bytes() != BODY or os.listdir(inside) != ["a.gz"]:
                return f"{kind}: not the file alone: {os.listdir(inside)}"
        except DataError as error:
            said = str(error)
            if len(urls) == 2:
                return f"{kind}: the good address did not win: {said}"
            if bad not in said or "could not download a.gz" not in said or not said.isprintable():
                return f"{kind}: an unclear error: {said!r}"
            if os.listdir(inside):
                return f"{kind}: left {os.listdir(inside)}"
        except Exception as error:
            return f"{kind}: {error!r}"
        # Far more than either limit: a crowded machine is no mistake.
        if time.monotonic() - began > 10 * LIMIT:
            return f"{kind}: took {time.monotonic() - began:.0f} s"
    return None


def try_all(faults, servers, folder, kinds, number):
    good = servers.start(GOOD)
    step = len(kinds) / number
    chosen = [list(kinds.items())[int(i * step)] for i in range(number)]
    with ThreadPoolExecutor(16) as pool:
        tried = []
        for i, (kind, sends) in enumerate(chosen):
            bad = sends if isinstance(sends, str) else servers.start(sends)
            tried.append(pool.submit(harm_of, kind, bad, good, folder / str(i)))
        for each in tried:
            faults.tried(each.result())


@pytest.mark.slow
def test_servers_that_end(faults, servers, tmp_path):
    number = faults.number("bad servers", quick=21, full=len(QUICK))
    try_all(faults, servers, tmp_path, QUICK, number)


@pytest.mark.slow
def test_servers_that_take_their_time(faults, servers, tmp_path):
    number = faults.number("bad servers", quick=6, full=len(SLOW))
    try_all(faults, servers, tmp_path, SLOW, number)


@pytest.mark.slow
def test_addresses_that_are_none(faults, servers, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    addresses = {
        "closed port": f"http://127.0.0.1:{port}/a.gz",
        "TLS where there is none": servers.start(GOOD, "https"),
        "a file": "file:///etc/passwd",
        "no scheme": "a.gz",
        "no host": "http://",
        "half an address": "http://[::1/a.gz",
        "another scheme": "ftp2://x/a.gz",
        "port above all": "http://127.0.0.1:99999/a.gz",
        "port of letters": "http://127.0.0.1:x/a.gz",
        "name without an end": "http://" + "x" * 70 + ".example/a.gz",
        "spaces": "http://a b/a.gz",
        "data": "data:,x",
    }
    faults.number("bad servers", quick=len(addresses), full=len(addresses))
    try_all(faults, servers, tmp_path, addresses, len(addresses))


def test_from_https_only_to_https(servers, tmp_path, monkeypatch):
    """A server that nobody can vouch for is asked over TLS, and sends elsewhere."""
    good = servers.start(GOOD)
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"https://127.0.0.1:{listening.getsockname()[1]}/a.gz"

    class Plain:
        """No TLS at all: what counts here is where the address leads."""

        verify_mode, check_hostname = ssl.CERT_REQUIRED, True
        post_handshake_auth = None

        def wrap_socket(self, sock, **options):
            return sock

    monkeypatch.setattr(ssl, "create_default_context", Plain)
    servers.sockets.append(listening)
    answer = (listening, redirect(good.encode()))
    threading.Thread(target=servers.answer, args=answer, daemon=True).start()
    with pytest.raises(DataError, match=f"{good} is not an address of https"):
        fetch(IdxFile("a.gz", SHA, [url]), tmp_path, timeout=STALL)


def test_what_a_killed_download_leaves_is_removed_by_the_next(servers, tmp_path):
    path = tmp_path / ("set of images " * 5)  # longer than what a temporary name keeps of it

    def killed(part):
        left = part.with_name(part.name.removesuffix(".part") + "left.part")
        left.write_bytes(b"part")
        os.utime(left, (0, 0))

    _download.download(servers.start(GOOD), path, killed, most=len(BODY))
    assert len(os.listdir(tmp_path)) == 2
    _files.remove_abandoned(path)
    assert os.listdir(tmp_path) == [path.name]
