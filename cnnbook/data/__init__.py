"""What there is to learn from: data sets and batches of them."""

from cnnbook.data.batches import Batches
from cnnbook.data.datasets import Dataset, list_datasets, load
from cnnbook.data.files import DataError

__all__ = ["Batches", "DataError", "Dataset", "list_datasets", "load"]
