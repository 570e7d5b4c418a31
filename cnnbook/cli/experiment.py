"""``cnnbook experiment``: the book's experiments, at any size."""

import argparse

from cnnbook import experiments
from cnnbook._stderr import say
from cnnbook.cli.output import check_outputs
from cnnbook.experiments.result import rounded
from cnnbook.results import as_json


def experiment(chosen: argparse.Namespace) -> int:
    """Run an experiment; print, record and draw its result. Without a name, list them all."""
    if chosen.name is None:
        recorded = experiments.list_recorded()
        for name in experiments.list_experiments():
            sizes = [r.removeprefix(f"{name}-") for r in recorded if r.startswith(f"{name}-")]
            print(f"{name:16}{experiments.get(name).title}")
            print(f"{'':16}recorded: {', '.join(sizes) or 'not yet'}")
        return 0
    check_outputs(plot=chosen.plot, folder=chosen.record or None)
    result = experiments.run(
        chosen.name,
        chosen.size,
        arms=chosen.arm,
        seeds=chosen.seeds,
        jobs=chosen.jobs,
        data_set=chosen.data,
        resume=not chosen.no_resume,
    )
    if chosen.record is not None:
        say(f"recorded in {result.save(chosen.record or None)}")
    if chosen.json:
        print(as_json(rounded(result.to_dict())).decode().strip())
    else:
        print(result)
    if chosen.plot:
        result.plot().save(chosen.plot)
    return 0
