"""A server that breaks the rules, and folders that cannot be written to."""

import gzip
import hashlib
import socket
import threading

import pytest

from cnnbook import data
from cnnbook.data import DataError
from cnnbook.data.files import Archive, IdxFile, fetch, find

BODY = gzip.compress(b"hello")
SHA = hashlib.sha256(b"hello").hexdigest()
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY

BAD = {
    "chunked, cut off": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\nabc",
    "chunk of no size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc",
    "no HTTP": b"garbage\r\n\r\n",
    "nothing": b"",
    "cut within the headers": b"HTTP/1.1 200 OK\r\nContent-Le",
    "bad Content-Length": b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nxx",
    "short": b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + BODY[:9],
    "other file": b"HTTP/1.1 200 OK\r\n\r\n" + gzip.compress(b"other"),
    "bad deflate": b"HTTP/1.1 200 OK\r\n\r\n" + BODY[:10] + b"\xff" * 8,
    "a page": b"HTTP/1.1 200 OK\r\n\r\n<html>Log in</html>",
    "404": b"HTTP/1.1 404 Not Found\r\n\r\n",
    "503": b"HTTP/1.1 503 Busy\r\n\r\n",
    "odd status": b"HTTP/1.1 999999 What\r\n\r\n",
    "endless redirect": b"HTTP/1.1 302 Found\r\nLocation: /a.gz\r\nContent-Length: 0\r\n\r\n",
    "redirect to nowhere": b"HTTP/1.1 302 Found\r\nLocation: http://\r\nContent-Length: 0\r\n\r\n",
    "redirect to a file": b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
    "long header": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 200 + b"\r\n",
}


@pytest.fixture
def serve():
    """Return a function that gives the address of a server that always sends these bytes."""
    sockets = []

    def start(raw: bytes) -> str:
        listening = socket.create_server(("127.0.0.1", 0))
        sockets.append(listening)

        def answer():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    try:
                        connection.recv(4096)
                        connection.sendall(raw)
                    except OSError:
                        pass

        threading.Thread(target=answer, daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}/a.gz"

    yield start
    for listening in sockets:
        listening.close()


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD)
def test_the_next_address_is_tried(tmp_path, serve, raw):
    file = IdxFile("a.gz", SHA, [serve(raw), serve(GOOD)])
    assert fetch(file, tmp_path, timeout=5).read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["a.gz"]
    archive = Archive("b.gz", hashlib.sha256(BODY).hexdigest(), file.urls)
    assert fetch(archive, tmp_path, timeout=5).read_bytes() == BODY


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD)
def test_without_another_address_it_is_a_data_error(tmp_path, serve, raw):
    url = serve(raw)
    with pytest.raises(DataError, match=f"could not download a.gz. Tried: {url}: ."):
        fetch(IdxFile("a.gz", SHA, [url]), tmp_path, timeout=5)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_says_nothing(tmp_path, serve):
    silent = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.gz"
    with silent:
        file = IdxFile("a.gz", SHA, [url, serve(GOOD)])
        assert fetch(file, tmp_path, timeout=0.2).read_bytes() == BODY


ADDRESSES = (
    "",
    "a.gz",
    "http://",
    "http://[::1/a.gz",
    "ftp2://x/a.gz",
    "http://127.0.0.1:99999/a.gz",
    "http://127.0.0.1:x/a.gz",
    "http://" + "x" * 70 + ".example/a.gz",
    "http://a b/a.gz",
)


@pytest.mark.parametrize("url", ADDRESSES)
def test_addresses_that_are_none(tmp_path, serve, url):
    file = IdxFile("a.gz", SHA, [url, serve(GOOD)])
    assert fetch(file, tmp_path, timeout=5).read_bytes() == BODY


@pytest.fixture(params=["a file", "below a file", "not to be made", "dangling link"])
def no_folder(request, tmp_path, monkeypatch):
    """A value of CNNBOOK_DATA under which nothing can be written, not even by root."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "link")
    path = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "deep",
        "not to be made": "/proc/nope",
        "dangling link": tmp_path / "link",
    }[request.param]
    monkeypatch.setenv("CNNBOOK_DATA", str(path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return str(path)


def test_nothing_can_be_written_there(no_folder, serve):
    with pytest.raises(DataError, match=f"nothing can be written to {no_folder}.*CNNBOOK_DATA"):
        find("some-set", IdxFile("a.gz", SHA, [serve(GOOD)]))
    with pytest.raises(DataError, match=f"no a.gz in {no_folder}.*download=False"):
        find("some-set", IdxFile("a.gz", SHA), download=False)


def test_data_sets_by_name_where_nothing_can_be_written(no_folder):
    for name in ("cifar10", "cifar100", "imagenette"):
        with pytest.raises(DataError, match="nothing can be written to"):
            data.load(name)
