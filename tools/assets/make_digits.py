"""Draw cnnbook's embedded handwritten digits from the file that scikit-learn distributes.

    python tools/assets/make_digits.py digits.csv.gz            write cnnbook/data/assets/digits/
    python tools/assets/make_digits.py digits.csv.gz --check    compare them, bit for bit

The file is sklearn/datasets/data/digits.csv.gz of the wheel (pip download --no-deps scikit-learn,
then unzip): the test part of the UCI data set, 1,797 images of 8×8 pixels from 0 to 16. It takes
100 training and 74 test images from each class, those whose SHA-256 of "digits <row>" is smallest,
and multiplies the values by 255/16 and rounds them, which can be undone. The images are stored with
the classes in turn, so that every prefix of the set is balanced.
"""

import argparse
import gzip
import hashlib
import sys
from pathlib import Path

import torch
from embedded import write_or_check

from cnnbook.data import datasets, files

SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
TRAIN, TEST = 100, 74  # of each class; the rarest one has 174


def contents(path: Path) -> dict[str, bytes]:
    """Return the uncompressed content of each file of the data set, by file name."""
    text = gzip.decompress(path.read_bytes())
    found = hashlib.sha256(text).hexdigest()
    if found != SHA256:
        sys.exit(f"{path} is not scikit-learn's digits.csv.gz: SHA-256 of its content is {found}")
    rows = torch.tensor([[int(value) for value in row.split(b",")] for row in text.split()])
    images, labels = (rows[:, :64] * 255 / 16).round().byte().view(-1, 8, 8), rows[:, 64]

    def rank(index: int) -> bytes:
        return hashlib.sha256(f"digits {index}".encode()).digest()

    drawn = torch.tensor(
        [
            sorted((labels == c).nonzero().flatten().tolist(), key=rank)[: TRAIN + TEST]
            for c in range(len(datasets.DIGIT_CLASSES))
        ]
    ).T
    result = {}
    for part, index in (("train", drawn[:TRAIN]), ("test", drawn[TRAIN:])):
        index = index.flatten()
        result[f"{part}-images-idx3-ubyte.xz"] = files.idx_bytes(images[index])
        result[f"{part}-labels-idx1-ubyte.xz"] = files.idx_bytes(labels[index].byte())
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("original", type=Path, help="scikit-learn's digits.csv.gz")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    args = parser.parse_args()
    return write_or_check(datasets.ASSETS / "digits", contents(args.original), args.check)


if __name__ == "__main__":
    sys.exit(main())
