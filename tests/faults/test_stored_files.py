"""Cuts and flips of data files, and of the JSON of recorded runs."""

import copy
import gzip
import json
import random
from pathlib import Path

import pytest

from cnnbook import experiments, results
from cnnbook.data import DataError, datasets
from cnnbook.data.cifar import CIFAR10
from cnnbook.data.files import Archive, IdxFile, check_archive, parse_idx, read_checked
from cnnbook.experiments.result import RECORDED
from cnnbook.results.records import RUNS
from cnnbook.results.schema import sealed

KIND = "cuts, data-file flips, results JSON"


def damaged(content, rng):
    """Return content cut, or with one bit or byte changed, and what was done."""
    if rng.random() < 0.4:
        at = rng.randrange(len(content))
        return content[:at], f"cut at {at}"
    changed = bytearray(content)
    at = rng.randrange(len(content))
    changed[at] ^= rng.choice((1, 2, 4, 8, 16, 32, 64, 128, 255))
    return bytes(changed), f"byte {at} changed"


@pytest.mark.slow
def test_data_files(faults, tmp_path):
    rng = random.Random(0)
    sources = [(f, datasets.ASSETS / "digits" / f.name) for f in datasets.DIGITS]
    kinds = [(f, path.read_bytes(), read_checked(path, f)) for f, path in sources]
    zipped = [(IdxFile(f"{f.name}.gz", f.sha256), gzip.compress(plain)) for f, _, plain in kinds]
    kinds += [(f, stored, kinds[i][2]) for i, (f, stored) in enumerate(zipped)]
    for i in range(faults.number(KIND, quick=80, full=1000)):
        file, stored, plain = kinds[i % len(kinds)]
        content, how = damaged(stored, rng)
        path = tmp_path / file.name
        path.write_bytes(content)
        harm = None
        try:
            # A compressed file holds some bytes that say nothing of its content, such as a date.
            if read_checked(path, file) != plain:
                harm = "silent"
        except DataError as error:
            harm = None if str(path) in str(error) and str(error).isprintable() else repr(error)
        except Exception as error:
            harm = repr(error)
        faults.tried(harm and f"{file.name}, {how}: {harm}")


def test_idx_files_and_archives(faults, tmp_path):
    """What is read from a file that has no checksum, and of one of which every byte counts."""
    rng = random.Random(1)
    file = datasets.DIGITS[3]
    plain = read_checked(datasets.ASSETS / "digits" / file.name, file)
    path = tmp_path / "set.tar.gz"
    for i in range(faults.number(KIND, quick=40, full=300)):
        content, how = damaged(plain[:300] if i % 2 else plain, rng)
        path.write_bytes(content)
        for name, read in {
            "parse_idx": lambda content=content: parse_idx(content),
            "check_archive": lambda: check_archive(path, Archive("set", CIFAR10.archive.sha256)),
        }.items():
            harm = None if name == "parse_idx" else "silent"
            try:
                read()
            except DataError as error:
                harm = None if str(error).isprintable() else repr(error)
            except Exception as error:
                harm = repr(error)
            faults.tried(harm and f"{name}, {how}: {harm}")


def smallest(folder: Path):
    return min(folder.glob("*.json"), key=lambda path: path.stat().st_size)


LOADERS = {
    "experiment": (experiments.load, RECORDED),
    "run": (results.load, RUNS),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LOADERS)
def test_changed_bytes_of_records(faults, kind, tmp_path):
    load, folder = LOADERS[kind]
    source = smallest(folder)
    content = json.loads(source.read_bytes())
    content.pop("sha256", None)
    stored, path = sealed(content), tmp_path / source.name
    path.write_bytes(stored)
    right = load(path)
    rng = random.Random(2)
    for _ in range(faults.number(KIND, quick=60, full=400)):
        changed, how = damaged(stored, rng)
        path.write_bytes(changed)
        harm = None
        try:
            # White space means nothing.
            if load(path) != right:
                harm = "silent"
        except ValueError as error:
            said = str(error)
            harm = None if said.startswith(f"{path}: ") and len(said) < 500 else repr(error)
        except Exception as error:
            harm = repr(error)
        faults.tried(harm and f"{source.name}, {how}: {harm}")


ODD = (None, True, -1, 1e300, 10**400, "", "x" * 200, "\x1b[2J", [], [[]], {}, {"a": None})


def change(value, rng):
    """Replace, remove or add something, anywhere in a nested value."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.8:
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        what = rng.random()
        if what < 0.6:
            value[key] = change(value[key], rng)
        elif what < 0.8:
            del value[key]
        elif isinstance(value, dict):
            value[rng.choice(("a", "", "schema", "sha256", "\x1b"))] = rng.choice(ODD)
        else:
            value.append(rng.choice(ODD))
        return value
    return copy.deepcopy(rng.choice(ODD))


@pytest.mark.slow
@pytest.mark.parametrize("kind", LOADERS)
def test_records_that_nobody_wrote(faults, kind, tmp_path):
    """Without a checksum: of an older cnnbook, or from another hand."""
    load, folder = LOADERS[kind]
    source = smallest(folder)
    content, path = json.loads(source.read_bytes()), tmp_path / source.name
    content.pop("sha256", None)
    rng = random.Random(3)
    for _ in range(faults.number(KIND, quick=60, full=300)):
        changed = change(copy.deepcopy(content), rng)
        path.write_text(json.dumps(changed))
        harm = None
        try:
            found = load(path)
        except ValueError as error:
            harm = None if str(error).startswith(f"{path}: ") else repr(error)
        except Exception as error:
            harm = repr(error)
        else:
            try:
                assert found.label
                repr(found.table())
            except Exception as error:
                harm = f"accepted, then {error!r}"
        faults.tried(harm and f"{source.name}: {harm}")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[" * 100_000, b"\xff\xfe\x00", b"\xed\xa0\x80", b"NaN", b"1" * 5000, b'"x"'],
)
@pytest.mark.parametrize("kind", LOADERS)
def test_what_is_no_record(kind, content, tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.json: "):
        LOADERS[kind][0](path)
