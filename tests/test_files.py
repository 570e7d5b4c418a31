"""Files are written whole, with the user's permissions, where the user's links lead."""

import os
import stat
import sys
import time

import pytest

from cnnbook import _files

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions and links")


@pytest.fixture
def umask():
    before = os.umask(0o077)
    yield
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_has_the_permissions_that_the_user_wants(tmp_path, umask):
    _files.write_whole(tmp_path / "new", b"x")
    assert mode(tmp_path / "new") == 0o600
    os.umask(0o022)
    _files.write_whole(tmp_path / "other", b"x")
    assert mode(tmp_path / "other") == 0o644


def test_a_replaced_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "shared"
    path.write_bytes(b"old")
    path.chmod(0o664)
    _files.write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert mode(path) == 0o664


def test_a_link_stays_a_link(tmp_path):
    target = tmp_path / "disk" / "run"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link = tmp_path / "latest"
    link.symlink_to(target)
    _files.write_whole(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert sorted(os.listdir(target.parent)) == ["run"]


def test_what_killed_runs_left_is_removed_and_what_is_being_written_is_not(tmp_path):
    path = tmp_path / "run"
    old, new, other = (tmp_path / f".{n}.part" for n in ("run.abc", "run.def", "walk.abc"))
    for part in (old, new, other):
        part.write_bytes(b"")
    long_ago = time.time() - 7200
    for part in (old, other):
        os.utime(part, (long_ago, long_ago))
    _files.check_writable(path)
    assert sorted(tmp_path.iterdir()) == sorted([new, other])


@pytest.mark.parametrize("name", ["x" * 250, "ü" * 100, "a[b]*?.run", "-", "run\udcff"])
def test_any_name_that_a_file_can_have(tmp_path, name):
    path = tmp_path / name
    _files.check_writable(path)
    _files.write_whole(path, b"x")
    assert path.read_bytes() == b"x"
    assert len(os.listdir(tmp_path)) == 1


def test_names_that_no_file_can_have_are_noticed_before_training(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / ("x" * 300), tmp_path / "pipe", tmp_path / "file" / "run"):
        with pytest.raises(OSError):  # noqa: PT011
            _files.check_writable(path)


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device", f"{tmp_path}/.a.png.x.part")

    monkeypatch.setattr(_files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        _files.write_whole(tmp_path / "a.png", b"x")
    assert caught.value.filename == str(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
