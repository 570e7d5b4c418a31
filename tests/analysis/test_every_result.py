"""What the functions of `analysis` return: it draws itself, and needs no matplotlib until then."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from cnnbook import analysis
from cnnbook.data import Dataset


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    )


def images(count=6):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 1, 8, 8, generator=generator)


def labeled():
    pixels = (255 * images(12)).to(torch.uint8)
    return Dataset("noise", pixels, torch.arange(12) % 3, ("a", "b", "c"), (0.5,), (0.3,))


def recorder():
    found = analysis.GradientRecorder(images(3), torch.arange(3))
    found.norms = {step: {"0.weight": 0.1 / step, "4.weight": 0.2} for step in (1, 10)}
    return found


X, Y, SHAPE = images(3), torch.arange(3), (1, 8, 8)
# Each public function on a small network, and what its result's `plot` needs.
EXAMPLES = {
    "activation_statistics": (lambda: analysis.activation_statistics(network(), X), ()),
    "activations": (lambda: analysis.activations(network(), X), ()),
    "confusion_matrix": (lambda: analysis.confusion_matrix(Y, Y.flip(0), 3), ()),
    "effective_receptive_field": (
        lambda: analysis.effective_receptive_field(network(), X, "0"),
        (),
    ),
    "factorize_kernel": (lambda: analysis.factorize_kernel(torch.eye(5), restarts=2), ()),
    "grad_cam": (lambda: analysis.grad_cam(network(), X, "0"), ()),
    "gradient_flow": (lambda: analysis.gradient_flow({"small": network()}, X, Y), ()),
    "linear_probes": (lambda: analysis.linear_probes(network(), labeled(), labeled()), ()),
    "loss_surface": (lambda: analysis.loss_surface(network(), labeled(), steps=3), ()),
    "maximize_activation": (
        lambda: analysis.maximize_activation(network(), "0", [0, 2], shape=SHAPE, steps=2),
        (),
    ),
    "occlusion": (lambda: analysis.occlusion(network(), X), ()),
    "receptive_field": (lambda: analysis.receptive_field(network(), SHAPE, "0"), (X[0],)),
    "summary": (lambda: analysis.summary(network(), SHAPE), ()),
    "top_patches": (lambda: analysis.top_patches(network(), X, "0", [0, 2], k=2), ()),
    "trace": (lambda: analysis.trace(network(), SHAPE), ()),
    # Not functions, but what they record or tabulate is drawn as well.
    "GradientRecorder": (recorder, ()),
    "GradientHistory": (lambda: recorder().table(), ()),
}
NOT_DRAWN = {
    "compose_kernels": "a kernel, as torch has them: plots.filters",
    "conv_cost": "a formula and two numbers",
    "effective_size": "one number",
    "filter_directions": "weights, as torch has them",
    "gradient_norms": "one number for each parameter: gradient_flow draws them",
    "linear_cost": "a formula and two numbers",
    "operation": "a decorator",
}


def test_every_public_function_is_here_or_has_a_reason():
    functions = {name for name in analysis.__all__ if name == name.lower()}
    assert functions - set(EXAMPLES) - set(NOT_DRAWN) == set()
    assert set(EXAMPLES) & set(NOT_DRAWN) == set()
    assert set(EXAMPLES) <= set(analysis.__all__)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_result_draws_itself(name):
    from cnnbook import plots

    make, arguments = EXAMPLES[name]
    figure = make().plot(*arguments)
    assert isinstance(figure, plots.Figure)
    assert figure.figure.axes
    assert len(figure.alt.split()) > 4
    assert make().plot(*arguments, alt="in words").alt == "in words"


def test_functions_that_draw_results_are_named_after_them():
    """A result's function in plots has its name in snake case; these four have better ones."""
    other = {
        "Summary": "layer_costs",
        "ReceptiveField": "receptive_fields",
        "Trace": "architecture",
        "GradientRecorder": "gradient_history",
    }
    from cnnbook import plots

    drawn = [name for name in analysis.__all__ if hasattr(getattr(analysis, name), "plot")]
    assert len(drawn) > 10
    for name in drawn:
        snake = re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()
        assert other.get(name, snake) in plots.__all__, name


@pytest.mark.slow
def test_numbers_need_no_matplotlib():
    code = f"""
import sys
sys.modules["matplotlib"] = None  # importing it fails from now on
sys.path.insert(0, {str(Path(__file__).parent)!r})
import {Path(__file__).stem} as examples
for name, (make, _) in examples.EXAMPLES.items():
    print(name, repr(make())[:200])
try:
    examples.EXAMPLES["activations"][0]().plot()
except ImportError as error:
    print("plot:", error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in EXAMPLES if f"{line} " not in done.stdout] == []
    assert "plot: " in done.stdout


@pytest.mark.slow
def test_tables_become_data_frames():
    tables = [name for name in EXAMPLES if hasattr(EXAMPLES[name][0](), "to_pandas")]
    assert {"summary", "linear_probes", "gradient_flow", "GradientHistory"} <= set(tables)
    for name in tables:
        frame = EXAMPLES[name][0]().to_pandas()
        assert len(frame) > 0, name
    frame = analysis.confusion_matrix(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), ["a", "b"])
    assert frame.to_pandas().loc["a", "b"] == 1
    surface = analysis.loss_surface(network(), labeled(), steps=3)
    frame = surface.to_pandas()
    assert frame.loc[0.0, 1.0] == pytest.approx(surface.loss[1, 2].item())
    frame = analysis.summary(network(), SHAPE).to_pandas()
    assert frame["parameters"].sum() == sum(p.numel() for p in network().parameters())
