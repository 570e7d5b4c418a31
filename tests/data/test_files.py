"""Damaged, missing and downloaded files."""

import functools
import gzip
import hashlib
import http.server
import lzma
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cnnbook.data import DataError, datasets
from cnnbook.data.files import (
    IdxFile,
    fetch,
    find,
    idx_bytes,
    parse_idx,
    read_checked,
    search_folders,
)

ARRAY = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4)
CONTENT = idx_bytes(ARRAY)
SHA = hashlib.sha256(CONTENT).hexdigest()


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 255))
def test_idx_round_trip(shape, start):
    array = (torch.arange(torch.Size(shape).numel()) + start).remainder(256).byte().view(shape)
    assert torch.equal(parse_idx(idx_bytes(array)), array)


def test_idx_header_is_the_published_format():
    assert CONTENT[:16] == bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"\x00\x00\x0d\x01" + bytes(8), "not an IDX file"),
        (CONTENT[:9], "ends inside it"),
        (CONTENT[:-1], r"24 values\), but 23 follow"),
        (CONTENT + b"\0", r"24 values\), but 25 follow"),
    ],
)
def test_malformed_idx(content, message):
    with pytest.raises(DataError, match=message):
        parse_idx(content)


@pytest.mark.parametrize(("suffix", "module"), [("gz", gzip), ("xz", lzma)])
def test_checked_reading(tmp_path, suffix, module):
    file, path = IdxFile(f"x.{suffix}", SHA, ["https://x"]), tmp_path / f"x.{suffix}"
    whole = module.compress(CONTENT)

    path.write_bytes(whole)
    assert read_checked(path, file) == CONTENT

    path.write_bytes(whole[:-6])
    with pytest.raises(DataError, match=rf"x.{suffix} is truncated.*{len(whole) - 6}.*Delete"):
        read_checked(path, file)

    path.write_bytes(module.compress(CONTENT[:-1] + b"\xff"))
    with pytest.raises(DataError, match=f"altered.*expected {SHA}.*Delete"):
        read_checked(path, file)

    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match=r"cannot be decompressed.*Delete"):
        read_checked(path, file)


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        if self.path == "/short/x.gz":  # announces more than it sends
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"\x1f\x8b" + bytes(100))
        else:
            super().do_GET()


@pytest.fixture
def server(tmp_path):
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "x.gz").write_bytes(gzip.compress(CONTENT))
    (tmp_path / "www" / "other").mkdir()
    (tmp_path / "www" / "other" / "x.gz").write_bytes(gzip.compress(CONTENT + b"!"))
    handler = functools.partial(Handler, directory=tmp_path / "www")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_download(tmp_path, server):
    folder = tmp_path / "cache"
    path = fetch(IdxFile("x.gz", SHA, [f"{server}/x.gz"]), folder)
    assert path == folder / "x.gz"
    assert gzip.decompress(path.read_bytes()) == CONTENT
    assert list(folder.iterdir()) == [path]


def test_download_goes_on_to_the_next_address(tmp_path, server):
    urls = [f"{server}/missing/x.gz", f"{server}/other/x.gz", f"{server}/short/x.gz"]
    path = fetch(IdxFile("x.gz", SHA, [*urls, f"{server}/x.gz"]), tmp_path / "cache")
    assert gzip.decompress(path.read_bytes()) == CONTENT


def test_failed_download_names_every_address_and_leaves_nothing(tmp_path, server):
    urls = [f"{server}/missing/x.gz", f"{server}/other/x.gz", f"{server}/short/x.gz"]
    with pytest.raises(DataError) as error:
        fetch(IdxFile("x.gz", SHA, urls), tmp_path / "cache")
    for part in (*urls, "404", "altered", "fashion-mini"):
        assert part in str(error.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_failed_download_keeps_the_file_that_was_there(tmp_path, server):
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "x.gz").write_bytes(b"mine")
    with pytest.raises(DataError):
        fetch(IdxFile("x.gz", SHA, [f"{server}/other/x.gz"]), folder)
    assert (folder / "x.gz").read_bytes() == b"mine"


@pytest.fixture
def locations(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNBOOK_DATA", str(tmp_path / "chosen"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "chosen" / "set", tmp_path / "xdg" / "cnnbook" / "set"


def test_search_order(locations):
    assert [str(folder) for folder in search_folders("set")] == [
        *map(str, locations),
        "/usr/share/datasets/set",
    ]


def test_earlier_location_wins(locations):
    file = IdxFile("x.gz", SHA)
    for location in reversed(locations):
        location.mkdir(parents=True)
        (location / "x.gz").touch()
        assert find("set", file) == location / "x.gz"


def test_what_is_nowhere_is_downloaded_to_the_chosen_folder(locations, server):
    path = find("set", IdxFile("x.gz", SHA, [f"{server}/x.gz"]))
    assert path == locations[0] / "x.gz"


def test_no_download_when_told_so(locations):
    with pytest.raises(DataError, match=r"no x.gz in .*chosen.*download=False"):
        find("set", IdxFile("x.gz", SHA, ["http://127.0.0.1:1/x.gz"]), download=False)


def test_published_addresses_are_https():
    for file in datasets.FASHION_MNIST:
        assert file.urls
        assert all(url.startswith("https://") and url.endswith(file.name) for url in file.urls)
