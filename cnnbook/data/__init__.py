"""Data sets, batches, and data augmentation."""

from cnnbook.data.augment import Augment, AugmentParams
from cnnbook.data.batches import Batches, BatchSource
from cnnbook.data.clutter import cluttered
from cnnbook.data.datasets import Dataset
from cnnbook.data.files import DataError
from cnnbook.data.folder import ImageFolder, StreamingBatches
from cnnbook.data.photos import list_photos, photo
from cnnbook.data.sources import DataLike, list_datasets, load, make_batches

__all__ = [
    "Augment",
    "AugmentParams",
    "BatchSource",
    "Batches",
    "DataError",
    "DataLike",
    "Dataset",
    "ImageFolder",
    "StreamingBatches",
    "cluttered",
    "list_datasets",
    "list_photos",
    "load",
    "make_batches",
    "photo",
]
