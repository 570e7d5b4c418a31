"""Make the README's picture: one boot on its way through a trained LeNet-5."""

from pathlib import Path

import torch

from cnnbook import analysis, data, models, training


def main() -> None:
    train, test = data.load("fashion-mini", size=32)
    torch.manual_seed(0)
    net = models.lenet5()
    training.fit(net, train, epochs=6, lr=0.1)
    boots = test[test.labels == test.classes.index("Ankle boot")]
    boot, _ = next(data.Batches(boots[:1], shuffle=False).epoch(0))
    titles = {
        "input": "input\n32×32",
        "c1": "C1\n6@28×28",
        "s2": "S2\n6@14×14",
        "c3": "C3\n16@10×10",
        "s4": "S4\n16@5×5",
        "c5": "C5\n120",
        "f6": "F6\n84",
        "output": "output\n10",
    }
    seen = analysis.activations(net, boot)
    figure = seen.plot(image=boots.images[0], rows=6, titles=titles)
    figure.save(Path(__file__).resolve().parents[2] / "_static" / "lenet5.png")


if __name__ == "__main__":
    main()
