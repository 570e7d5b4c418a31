"""``cnnbook bench``: timings and recorded experiments."""

import argparse

from cnnbook import bench as benchmark
from cnnbook import results
from cnnbook._stderr import say
from cnnbook.cli.output import check_outputs


def bench(chosen: argparse.Namespace) -> int:
    """Run parts of the benchmark; print, save, record and draw the results."""
    if not chosen.part and chosen.record in benchmark.PARTS:
        raise ValueError(
            f"name the part before --record: cnnbook bench {chosen.record} --record [FOLDER]"
        )
    if chosen.record is not None and len(chosen.part) != 1:
        raise ValueError(
            f"--record keeps one part, got {len(chosen.part)}: cnnbook bench PART --record FOLDER"
        )
    check_outputs(plot=chosen.plot, output=chosen.output, folder=chosen.record or None)
    result = benchmark.run(
        chosen.part,
        quick=chosen.quick,
        repeats=chosen.repeats,
        networks=chosen.model,
        precisions=chosen.precision,
        layouts=chosen.layout,
        modes=chosen.mode,
        batch_size=chosen.batch,
        limit=chosen.time_limit,
        data_set=chosen.data,
        seeds=chosen.seeds,
        output=chosen.output,
    )
    content = result.to_dict()
    if chosen.record is not None:
        measured = {name: value for name, value in content.items() if name != "schema"}
        path = results.record(**measured, folder=chosen.record or None)
        say(f"recorded in {path}")
    print(results.as_json(content).decode().strip() if chosen.json else result)
    if chosen.plot:
        result.plot().save(chosen.plot)
    return 0
