"""The functions of `analysis` take data in every form, and say the same of it."""

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from cnnbook import analysis
from cnnbook.data import Dataset


def labeled(count=12):
    """Images whose normalized values are their bytes, divided by 255."""
    pixels = torch.arange(count * 64).view(count, 1, 8, 8).mul(37).remainder(251).to(torch.uint8)
    return Dataset("noise", pixels, torch.arange(count) % 3, ("a", "b", "c"), (0.0,), (1.0,))


def pair():
    ours = labeled()
    return ours.images / 255, ours.labels


def batches():
    images, labels = pair()
    return [(images[i : i + 5], labels[i : i + 5]) for i in range(0, 12, 5)]


class Pictures(torch.utils.data.Dataset):
    """A data set of PIL images, as torchvision's are."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        if index >= 12:
            raise IndexError(index)
        ours = labeled()
        image = torchvision.transforms.functional.to_pil_image(ours.images[index])
        return image, int(ours.labels[index])


FORMS = {
    "ours": labeled,
    "a pair of tensors": pair,
    "a pair with bytes": lambda: (labeled().images, labeled().labels),
    "TensorDataset": lambda: TensorDataset(*pair()),
    "PIL images": Pictures,
    "part of a data set": lambda: Subset(labeled(24), range(12)),
    "DataLoader": lambda: DataLoader(TensorDataset(*pair()), batch_size=5),
    "DataLoader of ours": lambda: DataLoader(labeled(), batch_size=5),
    "list of batches": batches,
    "generator": lambda: (batch for batch in batches()),
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()


def rows(table):
    return [list(row.values()) for row in table.rows]


# Each with the data, and by hand with all images in one tensor, where that is possible.
CALLS = {
    "activation_statistics": lambda data: rows(analysis.activation_statistics(network(), data())),
    "linear_probes": lambda data: rows(
        analysis.linear_probes(network(), data(), data(), penalties=[1.0])
    ),
    "loss_surface": lambda data: analysis.loss_surface(network(), data(), steps=3).loss.tolist(),
    "gradient_norms": lambda data: analysis.gradient_norms(network(), data()),
    "gradient_flow": lambda data: rows(analysis.gradient_flow({"net": network()}, data())),
    "GradientRecorder": lambda data: analysis.GradientRecorder(data()).x.tolist(),
}


def close(found, expected):
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(close(found[k], expected[k]) for k in found)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    return found == expected or found == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("call", CALLS)
def test_every_form_of_data_gives_the_same(call, form):
    assert close(CALLS[call](FORMS[form]), CALLS[call](labeled))


@pytest.mark.parametrize("form", [form for form in FORMS if "pair" not in form])
def test_activations_of_a_whole_data_set(form):
    """A pair of tensors would be two inputs."""
    seen = analysis.activations(network(), FORMS[form](), "0")
    images, _ = pair()
    assert torch.allclose(seen.inputs, images, atol=1e-6)
    assert torch.allclose(seen["0"], network()[0](images), atol=1e-6)


def test_by_hand():
    images, labels = pair()
    (row,) = analysis.activation_statistics(network(), DataLoader(labeled(), 5), "1").rows
    values = network()[:2](images)
    assert row["mean"] == pytest.approx(values.mean().item(), rel=1e-5)
    loss = nn.functional.cross_entropy(network()(images), labels)
    surface = analysis.loss_surface(network(), DataLoader(labeled(), 5), steps=1)
    assert surface.loss.item() == pytest.approx(loss.item(), rel=1e-5)
    net = network()
    nn.functional.cross_entropy(net(images), labels).backward()
    norms = analysis.gradient_norms(net, DataLoader(labeled(), 5))
    assert norms["0.weight"] == pytest.approx(net[0].weight.grad.square().mean().sqrt().item())


@pytest.mark.parametrize("given", [7, "fashion-mini", labeled])
def test_anything_else_is_refused_in_words(given):
    for call in (
        lambda: analysis.activation_statistics(network(), given),
        lambda: analysis.linear_probes(network(), given, given),
        lambda: analysis.loss_surface(network(), given),
        lambda: analysis.gradient_norms(network(), given),
        lambda: analysis.activations(network(), given),
    ):
        with pytest.raises(TypeError, match=r"expected|Dataset|tensor"):
            call()


def test_probes_need_class_numbers():
    images, _ = pair()
    for labels in (torch.rand(12), torch.zeros(12, 3, dtype=torch.long), -torch.ones(12).long()):
        with pytest.raises(ValueError, match="labels must be class numbers from 0"):
            analysis.linear_probes(network(), (images, labels), (images, labels))
