"""Whatever is passed to the tools of analysis, the answer is right or a sentence says why not."""

import copy
import math

import pytest
import torch
from torch import nn

from cnnbook import analysis

X, Y = torch.rand(4, 1, 8, 8), torch.arange(4) % 3
NAN = float("nan")


def network():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


class Returns(nn.Module):
    """Makes something else of a network's scores."""

    def __init__(self, change):
        super().__init__()
        self.net, self.change = network(), change

    def forward(self, x):
        return self.change(self.net(x))


RUN = {
    "activation_statistics": lambda net, x: analysis.activation_statistics(net, x),
    "activations": lambda net, x: analysis.activations(net, x),
    "effective_receptive_field": lambda net, x: analysis.effective_receptive_field(net, x, "0"),
    "grad_cam": lambda net, x: analysis.grad_cam(net, x, "0"),
    "gradient_norms": lambda net, x: analysis.gradient_norms(net, x, Y),
    "linear_probes": lambda net, x: analysis.linear_probes(net, [(x, Y)], [(x, Y)]),
    "loss_surface": lambda net, x: analysis.loss_surface(net, [(x, Y)], steps=1),
    "maximize_activation": lambda net, x: analysis.maximize_activation(
        net, "0", 0, shape=(1, 8, 8), steps=1
    ),
    "occlusion": lambda net, x: analysis.occlusion(net, x),
    "top_patches": lambda net, x: analysis.top_patches(net, x, "0", 0, k=1),
}


@pytest.mark.parametrize("name", RUN)
def test_a_network_without_values_is_refused(name):
    with pytest.raises(ValueError, match="the network is on the meta device: its weights have"):
        RUN[name](network().to("meta"), X)


@pytest.mark.parametrize("make", [lambda: X.to("meta"), lambda: X.to_sparse()])
@pytest.mark.parametrize("name", sorted(RUN.keys() - {"maximize_activation"}))
def test_images_without_values_are_refused(name, make):
    with pytest.raises(ValueError, match=r"must be a dense tensor, got (one without|torch.spar)"):
        RUN[name](network(), make())


@pytest.mark.parametrize("name", ["trace", "summary"])
def test_a_trace_takes_no_sparse_example(name):
    with pytest.raises(ValueError, match=r"layout torch\.sparse_coo: make it dense"):
        getattr(analysis, name)(network(), X.to_sparse())


@pytest.mark.parametrize(
    "run",
    [
        RUN["grad_cam"],
        RUN["gradient_norms"],
        RUN["effective_receptive_field"],
        RUN["maximize_activation"],
        lambda net, x: analysis.activations(net, x, grad=True),
    ],
)
def test_weights_made_in_inference_mode_have_no_gradients(run):
    with torch.inference_mode():
        net = network()
    with pytest.raises(ValueError, match=r"made in torch.inference_mode.*copy.deepcopy"):
        run(net, X)
    run(copy.deepcopy(net), X)  # the cure


@pytest.mark.parametrize(
    ("change", "kind"),
    [(lambda y: torch.complex(y, y), "complex64"), (lambda y: y.round().long(), "int64")],
)
def test_scores_are_floats(change, kind):
    for run in (analysis.occlusion, lambda net, x: analysis.grad_cam(net, x, "net.0")):
        with pytest.raises(TypeError, match=f"class scores are floating-point .*{kind}"):
            run(Returns(change), X)


@pytest.mark.parametrize(
    ("change", "labels"),
    [
        (lambda y: y[:, 0], Y),
        (lambda y: torch.complex(y, y), Y),
        (lambda y: y.long(), Y),
        (lambda y: y, Y + 9),
        (lambda y: y, Y.float()),
        (lambda y: y, Y[:2]),
    ],
)
def test_scores_and_labels_that_have_no_cross_entropy(change, labels):
    with pytest.raises(ValueError, match=r"no cross-entropy of scores \(4.*, and labels \(\d,\)"):
        analysis.gradient_norms(Returns(change), X, labels)


@pytest.mark.parametrize(
    "call",
    [
        lambda net, none: analysis.activation_statistics(net, none),
        lambda net, none: analysis.gradient_norms(net, none),
        lambda net, none: analysis.loss_surface(net, none, steps=1),
        lambda net, none: analysis.linear_probes(net, none, [(X, Y)]),
    ],
)
def test_an_iterator_that_is_used_up(call):
    with pytest.raises(ValueError, match="no images; an iterator gives its batches only once"):
        call(network(), iter([]))


NET = network()
COUNTS = {
    "steps": lambda n: analysis.loss_surface(NET, [(X, Y)], steps=n),
    "k": lambda n: analysis.top_patches(NET, X, "0", 0, k=n),
    "batch_size": lambda n: analysis.activation_statistics(NET, X, batch_size=n),
    "batch_size ": lambda n: analysis.occlusion(NET, X, batch_size=n),
    "max_features": lambda n: analysis.linear_probes(NET, [(X, Y)], [(X, Y)], max_features=n),
    "every": lambda n: analysis.GradientRecorder(X, Y, every=n),
    "classes": lambda n: analysis.confusion_matrix(Y, Y, n),
    "restarts": lambda n: analysis.factorize_kernel(torch.rand(5, 5), restarts=n),
    "steps ": lambda n: analysis.maximize_activation(NET, "0", 0, shape=(1, 8, 8), steps=n),
}


@pytest.mark.parametrize("value", [0, -3, 2.5, "3", None, True, NAN, 2**70])
@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_counts(name, value):
    with pytest.raises((TypeError, ValueError), match=rf"{name.strip()} must be .*got|integer"):
        COUNTS[name](value)


def test_values_that_are_no_numbers():
    for call, said in (
        (lambda: analysis.top_patches(NET, X * NAN, "0", 0, k=1), "so that none is the highest"),
        (lambda: analysis.occlusion(NET, X, fill=NAN), "fill must be finite"),
        (lambda: analysis.loss_surface(NET, [(X, Y)], span=NAN), "span must be positive and fin"),
        (lambda: analysis.loss_surface(NET, [(X, Y)], span=math.inf), "span must be positive"),
        (lambda: analysis.effective_size(torch.full((3, 3), NAN)), "effect must be finite"),
        (lambda: analysis.factorize_kernel(torch.full((3, 3), NAN)), "kernel must be finite"),
        (lambda: analysis.compose_kernels(torch.full((1, 1, 3, 3), NAN)), "kernel must be finite"),
        (lambda: analysis.linear_probes(NET, [(X * NAN, Y)], [(X, Y)]), "infinite or no numbers"),
        (
            lambda: analysis.maximize_activation(NET, "0", 0, shape=(1, 8, 8), std=0),
            "std must be",
        ),
        (
            lambda: analysis.maximize_activation(NET, "0", 0, shape=(1, 8, 8), lr=NAN),
            "lr must be",
        ),
        (lambda: analysis.maximize_activation(NET, "0", 0, shape=(1, 10**7, 10**7)), "take .* GB"),
        (lambda: analysis.confusion_matrix(Y, Y, 10**6), "counts of 1,000,000 classes take .* GB"),
        (lambda: analysis.effective_receptive_field(NET, X, "0", unit=5), "a row and a column"),
    ):
        with pytest.raises(ValueError, match=said):
            call()


def test_what_is_no_tensor_or_number():
    for call, said in (
        (lambda: analysis.compose_kernels([X]), "a kernel must be a torch tensor, got a list"),
        (lambda: analysis.factorize_kernel("x"), "kernel must be a torch tensor"),
        (lambda: analysis.effective_size("x"), "effect must be a torch tensor"),
        (lambda: analysis.GradientRecorder("x", "y"), "x must be a torch tensor"),
        (lambda: analysis.confusion_matrix(Y, Y, None), "classes must be names, or their number"),
        (lambda: analysis.confusion_matrix(Y.to_sparse(), Y, 3), "labels must be a dense tensor"),
        (lambda: analysis.linear_cost("a", 2), "inputs must be an integer, got 'a'"),
        (lambda: analysis.occlusion(NET, X, fill="x"), "fill must be a number"),
        (lambda: analysis.maximize_activation(NET, "0", 0, shape=(1, 8, 8), mean="x"), "mean must"),
        (lambda: analysis.activations(NET, X, ["0"]).plot("0", index="x"), "index must be an int"),
    ):
        with pytest.raises(TypeError, match=said):
            call()
