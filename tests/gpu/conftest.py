"""Exact float32 arithmetic, so that a GPU's results can be compared with a CPU's."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _exact():
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = False
    yield
    cudnn.allow_tf32, matmul.allow_tf32 = before
