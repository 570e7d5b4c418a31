"""Networks of the papers, one file per architecture."""

from cnnbook.models.lenet import LeNet5, LeNet51998, lenet5, map_loss

__all__ = ["LeNet5", "LeNet51998", "lenet5", "map_loss"]
