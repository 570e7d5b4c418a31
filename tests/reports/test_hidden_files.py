"""What systems and editors leave in folders of pictures is not read, nor is a picture twice."""

import pytest
from PIL import Image

from cnnbook import data
from cnnbook.data import DataError

APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        "


@pytest.fixture
def root(tmp_path):
    for part in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / "pictures" / part / name).mkdir(parents=True)
            picture(tmp_path / "pictures" / part / name / "1.jpg")
    return tmp_path / "pictures"


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), "red").save(path)


def files(root):
    train, _ = data.load(f"imagefolder:{root}", size=16)
    names = [path.decode() for path in train.paths.tolist()]
    assert [train.classes[y] for y in train.labels] == [name.split("/")[0] for name in names]
    return names


PLAIN = ["cat/1.jpg", "dog/1.jpg"]


def test_hidden_files(root):
    (root / "train" / "cat" / "._1.jpg").write_bytes(APPLE_DOUBLE)
    (root / "train" / "cat" / ".hidden.png").write_bytes(b"")
    (root / "train" / "cat" / "Thumbs.db").write_bytes(b"")
    (root / "train" / ".DS_Store").write_bytes(b"")
    assert files(root) == PLAIN
    assert data.load(f"imagefolder:{root}", size=16)[0][0][0].shape == (3, 16, 16)


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", ".thumbnails", "@eaDir", "__MACOSX"])
def test_hidden_folders(root, hidden):
    picture(root / "train" / "cat" / hidden / "1-checkpoint.jpg")
    picture(root / "train" / "cat" / "more" / hidden / "deep" / "2.jpg")
    picture(root / "train" / hidden / "3.jpg")
    picture(root / "val" / hidden / "4.jpg")
    assert files(root) == PLAIN


@pytest.mark.parametrize("up", [".", "..", "../..", "../../.."])
def test_links_to_folders_above(root, up):
    (root / "train" / "cat" / "again").symlink_to(up)
    assert files(root) == PLAIN


def test_links_to_folders_above_by_their_whole_path(root):
    (root / "train" / "cat" / "again").symlink_to(root / "train" / "cat")
    (root / "train" / "cat" / "deep").mkdir()
    (root / "train" / "cat" / "deep" / "again").symlink_to(root)
    (root / "train" / "whole").symlink_to(root)  # would be a class
    assert files(root) == PLAIN


def test_links_to_each_other(root, tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / name / f"{name}.jpg")
    (tmp_path / "a" / "to").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "to").symlink_to(tmp_path / "a")
    (root / "train" / "cat" / "a").symlink_to(tmp_path / "a")
    assert files(root) == ["cat/1.jpg", "cat/a/a.jpg", "cat/a/to/b.jpg", "dog/1.jpg"]


def test_two_links_to_one_folder(root, tmp_path):
    picture(tmp_path / "elsewhere" / "9.jpg")
    for name in ("one", "two"):
        (root / "train" / "cat" / name).symlink_to(tmp_path / "elsewhere")
    assert files(root) == ["cat/1.jpg", "cat/one/9.jpg", "dog/1.jpg"]


def test_links_that_lead_elsewhere_are_followed(root, tmp_path):
    picture(tmp_path / "elsewhere" / "deep" / "9.jpg")
    picture(tmp_path / "fish" / "5.jpg")
    (root / "train" / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "train" / "fish").symlink_to(tmp_path / "fish")
    (root / "train" / "cat" / "2.jpg").symlink_to(tmp_path / "elsewhere" / "deep" / "9.jpg")
    assert files(root) == [
        "cat/1.jpg", "cat/2.jpg", "cat/more/deep/9.jpg", "dog/1.jpg", "fish/5.jpg"
    ]  # fmt: skip


def test_a_data_set_that_is_a_link_itself(root, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(root)
    assert files(tmp_path / "link") == PLAIN
    monkeypatch.chdir(tmp_path)
    assert files("link") == PLAIN
    monkeypatch.chdir(root)
    assert files(".") == PLAIN


def test_a_link_to_itself_is_no_folder(root):
    (root / "train" / "cat" / "self").symlink_to(root / "train" / "cat" / "self")
    assert files(root) == PLAIN


def test_nothing_but_hidden_files(tmp_path):
    for part in ("train", "val"):
        picture(tmp_path / part / "cat" / "._1.jpg")
    with pytest.raises(DataError, match="contains no images"):
        data.load(f"imagefolder:{tmp_path}")
