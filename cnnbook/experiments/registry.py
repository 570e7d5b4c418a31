"""All experiments by name."""

from cnnbook._errors import unknown
from cnnbook.experiments.experiment import Experiment

# The package adds its own when it is imported, in the book's order.
REGISTRY: dict[str, Experiment] = {}


def list_experiments() -> list[str]:
    """Return the names of all experiments, in the book's order.

    Examples
    --------
    >>> "degradation" in list_experiments()
    True
    """
    return list(REGISTRY)


def get(name: str) -> Experiment:
    """Return an experiment by its name.

    Raises
    ------
    ValueError
        If there is none of that name.

    Examples
    --------
    >>> sorted(get("degradation").sizes)
    ['desk', 'full', 'live']
    """
    if name not in REGISTRY:
        raise unknown("experiment", name, REGISTRY, see="experiments.list_experiments()")
    return REGISTRY[name]
