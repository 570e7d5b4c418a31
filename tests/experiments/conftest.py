"""Results made by hand, to see what verdicts and figures say of them."""

import pytest

from cnnbook import experiments
from cnnbook.experiments import ArmResult, Result


@pytest.fixture
def make_result():
    """Return a function that makes a result of an experiment, all of its arms alike by default.

    ``changes`` maps names of arms to what their runs measured, one value for each seed.
    """

    def make(name, changes, size="desk", **common):
        spec = experiments.get(name)
        settings = dict(spec.sizes[size].settings)
        arms = []
        for arm in spec.arms(settings):
            found = {**common, **changes.get(arm.name, {})}
            runs = [
                {
                    "parameters": 1_000,
                    "macs": 2_000,
                    "seconds": 7.0,
                    **{key: values[i] for key, values in found.items()},
                    "curves": {
                        "train_error": [0.6, 0.3, found["train_error"][i]],
                        "val_error": [0.6, 0.3, found["val_error"][i]],
                    },
                }
                for i in range(len(found["val_error"]))
            ]
            arms.append(ArmResult(arm.name, dict(arm.options), 0.1, {}, runs))
        texts = dict.fromkeys(("command", "fingerprint"), "")
        return Result(
            experiment=name,
            size=size,
            title=spec.title,
            machine={},
            minutes={},
            settings=settings,
            tuning={},
            arms=arms,
            **texts,
        )

    return make
