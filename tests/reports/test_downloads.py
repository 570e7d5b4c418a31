"""Folders that cannot be written to, and processes without a home directory."""

import errno
import gzip
import hashlib
import os
import socket
import stat
import threading
import tracemalloc

import pytest

from cnnbook import data, training
from cnnbook.data import DataError
from cnnbook.data.files import Archive, IdxFile, fetch, find, read_checked

BODY = gzip.compress(b"hello")
SHA = hashlib.sha256(b"hello").hexdigest()
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


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


def test_an_archive_is_downloaded_as_it_is(tmp_path, serve):
    archive = Archive("b.gz", hashlib.sha256(BODY).hexdigest(), [serve(b"garbage"), serve(GOOD)])
    assert fetch(archive, tmp_path, timeout=5).read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["b.gz"]


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


@pytest.fixture
def homeless(monkeypatch):
    """As in `docker run --user 54321`: no HOME, and no user of that number."""

    def nobody(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "CNNBOOK_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)


def test_no_home_directory(homeless, tmp_path, monkeypatch, serve):
    file = IdxFile("a.gz", SHA, [serve(GOOD)])
    with pytest.raises(DataError, match=r"no home directory .*Set CNNBOOK_DATA to a folder"):
        find("some-set", file)
    with pytest.raises(DataError, match=r"no a.gz in /usr/share/datasets/some-set, and download"):
        find("some-set", file, download=False)
    monkeypatch.setenv("CNNBOOK_DATA", str(tmp_path))
    assert find("some-set", file) == tmp_path / "some-set" / "a.gz"
    train, _ = data.load("digits")
    assert len(train) == 1000


def test_a_tilde_without_a_home_directory(homeless):
    with pytest.raises(DataError, match="there is no folder ~/pictures/train"):
        data.load("imagefolder:~/pictures")
    with pytest.raises(training.CheckpointError, match="there is no file ~nobody-here/run"):
        training.load_checkpoint("~nobody-here/run")


def test_what_killed_downloads_left_is_removed(tmp_path, serve):
    old, new = tmp_path / ".a.gz.killed.part", tmp_path / ".a.gz.running.part"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    fetch(IdxFile("a.gz", SHA, [serve(GOOD)]), tmp_path)
    assert sorted(os.listdir(tmp_path)) == [new.name, "a.gz"]


def test_a_download_has_the_usual_permissions(tmp_path, serve):
    before = os.umask(0o027)
    try:
        path = fetch(IdxFile("a.gz", SHA, [serve(GOOD)]), tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_full_disk_is_not_the_servers_fault(tmp_path, serve, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"written to .*No space left on device. Set CNNBOOK_DATA"):
        fetch(IdxFile("a.gz", SHA, [serve(GOOD)]), tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_few_bytes_do_not_become_gigabytes(tmp_path):
    bomb = tmp_path / "a.gz"
    bomb.write_bytes(gzip.compress(bytes(50_000_000)))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"a.gz is altered.*more than 1,000,000 bytes"):
        read_checked(bomb, IdxFile("a.gz", SHA, ["https://x"], 1_000_000))
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()
