"""What makes a recorded run stale, and what does not."""

import importlib.util
import sys

import pytest

from cnnbook.experiments import get, list_experiments
from cnnbook.experiments.experiment import SIZES, Experiment, Size

SOURCE = '''"""A question."""
from cnnbook.experiments import figures
from cnnbook.experiments.experiment import Arm

FACTOR = 2
TITLE = "errors"


def arms(settings):
    """Return the only arm."""
    return [Arm(named(settings), {}, (0.1,))]


def named(settings):
    return f"arm of {settings['images']}"


def train(options, settings, lr, seed):
    # Nothing is learnt.
    return {"val_error": FACTOR * lr}


def verdict(result):
    """Say nothing."""
    return "nothing"


def plot(result):
    return figures.intervals({TITLE: result["arm"]})
'''


@pytest.fixture
def fingerprint(tmp_path):
    """Return a function: source of an experiment to its fingerprint."""
    made = []

    def of(source, settings=None):
        name = f"asked_{len(made)}"
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        made.append(name)
        spec.loader.exec_module(module)
        size = Size(settings or {"images": 10}, seeds=1)
        parts = [getattr(module, part) for part in ("arms", "train", "verdict", "plot")]
        return Experiment(name, "A question", {"live": size}, *parts).fingerprint(size)

    yield of
    for name in made:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A question."""', '"""Another question."""'),
        ('"""Return the only arm."""', '"""Return one arm."""'),
        ("    # Nothing is learnt.\n", ""),
        ('return "nothing"', 'return "all"'),
        ("from cnnbook.experiments import figures", "figures = None"),
        ('TITLE = "errors"', 'TITLE = "Errors"'),
        ("return figures.intervals({TITLE", "return figures.curves({TITLE"),
    ],
)
def test_text_and_figures_do_not_make_a_record_stale(fingerprint, old, new):
    assert old in SOURCE
    assert fingerprint(SOURCE.replace(old, new)) == fingerprint(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("FACTOR = 2", "FACTOR = 3"),  # a constant that training uses
        ("(0.1,)", "(0.2,)"),
        ("arm of", "arm with"),  # a function that arms uses
        ("FACTOR * lr}", "FACTOR * seed}"),
        ("experiment import Arm", "experiment import Size as Arm"),
        ("FACTOR = 2", "FACTOR = 2\nprint()"),  # runs, whoever uses it
    ],
)
def test_what_trains_makes_a_record_stale(fingerprint, old, new):
    assert old in SOURCE
    assert fingerprint(SOURCE.replace(old, new)) != fingerprint(SOURCE)


def test_settings_make_a_record_stale(fingerprint):
    assert fingerprint(SOURCE, {"images": 11}) != fingerprint(SOURCE)


def test_every_size_of_every_experiment_has_a_fingerprint_of_its_own():
    specs = [get(name) for name in list_experiments()]
    found = {spec.fingerprint(size) for spec in specs for size in spec.sizes.values()}
    assert len(found) == len(specs) * len(SIZES)
