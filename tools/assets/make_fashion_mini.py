"""Draw cnnbook's embedded data set, fashion-mini, from the original Fashion-MNIST files.

    python tools/assets/make_fashion_mini.py            write cnnbook/data/assets/fashion-mini/
    python tools/assets/make_fashion_mini.py --check    compare them, bit for bit

It takes 1,000 images from each class of the original training set and 200 from each class of the
test set: those whose SHA-256 of "<part> <index>" is smallest, which does not depend on the version
of a random generator. They are stored with the classes in turn, so that every prefix of the set is
balanced.
"""

import argparse
import hashlib
import sys

import torch
from embedded import write_or_check

from cnnbook.data import datasets, files, sources


def draw(part: str, labels: torch.Tensor, per_class: int) -> torch.Tensor:
    """Return indices into `labels`: `per_class` of each class, classes in turn."""

    def rank(index: int) -> bytes:
        return hashlib.sha256(f"{part} {index}".encode()).digest()

    chosen = [
        sorted((labels == c).nonzero().flatten().tolist(), key=rank)[:per_class]
        for c in range(len(datasets.FASHION_CLASSES))
    ]
    return torch.tensor(chosen).T.flatten()


def contents() -> dict[str, bytes]:
    """Return the uncompressed content of each file of the data set, by file name."""
    result = {}
    for part, original, per_class in zip(
        ("train", "test"), sources.load("fashion-mnist"), (1000, 200), strict=True
    ):
        index = draw(part, original.labels, per_class)
        result[f"{part}-images-idx3-ubyte.xz"] = files.idx_bytes(original.images[index, 0])
        result[f"{part}-labels-idx1-ubyte.xz"] = files.idx_bytes(original.labels[index].byte())
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    return write_or_check(datasets.ASSETS / "fashion-mini", contents(), check)


if __name__ == "__main__":
    sys.exit(main())
