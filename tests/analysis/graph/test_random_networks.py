"""Boxes of random networks against the support of the gradient."""

import pytest

from cnnbook.analysis import receptive_field
from tests.analysis.graph.random_networks import Random, supports


def check(seed: int) -> bool:
    """Compare all units of a random network; False if it cannot be followed."""
    net = Random(seed)
    names = [step.name for step in net.steps]
    try:
        field = receptive_field(net, net.shape, "last")
    except ValueError as error:
        if "cannot be followed" not in str(error):
            raise
        return False
    seen = supports(net, net.shape)
    # Where channels and positions cannot be told apart, all units see the same.
    assert field.positions == tuple(seen.shape[:2]) or field.shared, names
    for unit in [(i, j) for i in range(seen.shape[0]) for j in range(seen.shape[1])]:
        if not seen[unit].any():
            assert not net.exact, names
            continue
        at = unit if field.positions == tuple(seen.shape[:2]) else (0, 0)
        boxes = zip(field.box(*at), field.box(*at, clip=True), strict=True)
        for axis, (box, (first, stop)) in enumerate(boxes):
            line = seen[unit].any(1 - axis).nonzero()
            found = int(line.min()), int(line.max()) + 1
            assert first <= found[0] < found[1] <= stop, (names, unit)
            if net.exact and box == (first, stop):  # does not reach beyond the image
                assert found == box, (names, unit)
    return True


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 60, 20))
def test_no_pixel_outside_the_box_and_none_missing(start):
    followed = [check(seed) for seed in range(start, start + 20)]
    assert sum(followed) > 12
