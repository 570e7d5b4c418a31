"""Command line: ``python -m cnnbook``, or ``cnnbook`` once installed.

Exit codes: 0 done, 1 it could not be done (a file is missing or damaged, memory or disk ran out,
the loss became infinite), 2 the command makes no sense as given, 130 stopped by a signal.
"""

import argparse
import json
import sys
from pathlib import Path

DESCRIPTION = "Convolutional networks of the papers: list, train, use and time them."


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments
        Words after the program's name; those of this process if not given.

    Returns
    -------
    int
        The exit code.
    """
    chosen = parser().parse_args(arguments)
    # Loading torch takes seconds, which --help need not wait for.
    from cnnbook.data import DataError
    from cnnbook.training import CheckpointError

    try:
        return chosen.run(chosen)
    except ValueError as error:
        print(f"cnnbook: {error}", file=sys.stderr)
        return 2
    except (DataError, CheckpointError, OSError, MemoryError, FloatingPointError) as error:
        print(f"cnnbook: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("cnnbook: stopped", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(prog="cnnbook", description=DESCRIPTION)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run, help: str, **options) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help.capitalize(), **options)
        added.add_argument("--json", action="store_true", help="print JSON instead of text")
        added.set_defaults(run=run)
        return added

    listing = command("models", _models, "list the networks with their costs")
    listing.add_argument("name", nargs="*", help="only these")

    sets = command("data", _data, "list, fetch or verify data sets")
    sets.add_argument("action", choices=["list", "fetch", "verify"])
    sets.add_argument("name", nargs="?", help="data set, for fetch and verify")

    training = command(
        "train",
        _train,
        "train a network",
        epilog="On several GPUs: torchrun --nproc-per-node=8 -m cnnbook train resnet50 "
        "--data imagefolder:PATH. Ctrl-C stops after the current step and keeps the state; the "
        "same command goes on from there.",
    )
    training.add_argument("model", help="a name that `cnnbook models` lists")
    training.add_argument("--data", default="fashion-mini", help="data set (default: %(default)s)")
    training.add_argument("--size", type=int, help="side of the images in pixels")
    training.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE",
        help="option of the network, for example width=0.25; may be repeated",
    )  # fmt: skip
    training.add_argument("--epochs", type=int, help="passes over the data (by the preset: 10, 30)")
    training.add_argument(
        "--batch-size", type=int, default=64, help="over all processes (%(default)s)"
    )
    training.add_argument(
        "--lr", type=float, default=0.05, help="largest learning rate (%(default)s)"
    )
    training.add_argument("--weight-decay", type=float, default=0.0)
    training.add_argument("--label-smoothing", type=float, default=0.0)
    training.add_argument(
        "--augment", action="append", default=[], metavar="NAME=VALUE",
        help="random change of training images, for example rotate=10 or flip=0.5; may be repeated",
    )  # fmt: skip
    training.add_argument("--ema-decay", type=float, help="decay of averaged weights, e.g. 0.999")
    training.add_argument("--target-accuracy", type=float, help="stop there, 0 to 1")
    training.add_argument(
        "--precision", default="auto", help="float32, bfloat16, float16 (default: by the device)"
    )
    training.add_argument(
        "--channels-last", action=argparse.BooleanOptionalAction, default=None,
        help="memory layout (default: by the device)",
    )  # fmt: skip
    training.add_argument("--compile", action="store_true", help="use torch.compile")
    training.add_argument(
        "--checkpoint", help="file of the trained network (default: MODEL-DATA.safetensors here)"
    )
    training.add_argument("--no-checkpoint", action="store_true", help="keep nothing")
    training.add_argument("--checkpoint-every", type=int, metavar="STEPS", help="default: an epoch")
    training.add_argument("--no-resume", action="store_true", help="begin anew, replacing the file")
    training.add_argument("--tensorboard", metavar="FOLDER", help="write TensorBoard's log there")
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--device", help="default: the fastest of this machine")
    training.add_argument("--quiet", action="store_true", help="only the result")

    evaluating = command("evaluate", _evaluate, "measure a trained network on test images")
    evaluating.add_argument("checkpoint", help="file that `cnnbook train` wrote")
    evaluating.add_argument("--data", help="data set (default: the one it was trained on)")
    evaluating.add_argument("--device", help="default: the fastest of this machine")

    predicting = command("predict", _predict, "name what is on pictures")
    predicting.add_argument("checkpoint", help="file that `cnnbook train` wrote")
    predicting.add_argument("image", nargs="+", help="image files, looking like the training ones")
    predicting.add_argument("--top", type=int, default=3, help="classes to name (%(default)s)")
    predicting.add_argument("--device", help="default: the fastest of this machine")

    timing = command("bench", _bench, "time this package beside what one would do without it")
    timing.add_argument(
        "part", nargs="*",
        help="augment, epoch, accuracy, models (default: these four); or an experiment: "
        "throughput, fashion, configurations",
    )  # fmt: skip
    timing.add_argument("--quick", action="store_true", help="small and rough: does it run?")
    timing.add_argument("--repeats", type=int, default=5, help="rounds (%(default)s)")
    timing.add_argument("--model", action="append", help="only this network; may be repeated")
    timing.add_argument("--limit", type=float, default=300, metavar="SECONDS",
                        help="longest training time in part accuracy (%(default)s)")  # fmt: skip
    timing.add_argument("--data", help="data set of parts fashion and configurations")
    timing.add_argument("--seeds", type=int, default=3, help="seeds of the same (%(default)s)")
    timing.add_argument("--output", metavar="FILE", help="keep the result as JSON")
    timing.add_argument("--record", metavar="FOLDER", nargs="?", const="",
                        help="keep it as a recorded run, named after part and device "
                        "(default: in the package)")  # fmt: skip
    timing.add_argument("--plot", metavar="FILE", help="draw the ratios: .png, .svg or .pdf")
    return top


def _show(rows, as_json: bool) -> None:
    print(json.dumps(rows.to_dicts(), indent=1, ensure_ascii=False) if as_json else rows)


def _models(chosen: argparse.Namespace) -> int:
    from cnnbook import commands

    _show(commands.models_table(chosen.name), chosen.json)
    return 0


def _data(chosen: argparse.Namespace) -> int:
    from cnnbook import commands

    if chosen.action == "list":
        _show(commands.data_table(), chosen.json)
        return 0
    if chosen.name is None:
        raise ValueError(f"which data set? cnnbook data {chosen.action} NAME")
    _show(commands.verify_data(chosen.name, chosen.action == "fetch"), chosen.json)
    return 0


def _train(chosen: argparse.Namespace) -> int:
    from cnnbook import commands
    from cnnbook.training import join_processes, processes

    # In a file name, a path's separators would be folders.
    source = Path(chosen.data).name if chosen.data.startswith("imagefolder:") else chosen.data
    checkpoint = chosen.checkpoint or f"{chosen.model}-{source}.safetensors"
    with join_processes() as device:
        result = commands.train(
            chosen.model,
            chosen.data,
            size=chosen.size,
            options=commands.parse_options(chosen.option),
            augment=commands.parse_options(chosen.augment),
            checkpoint=None if chosen.no_checkpoint else checkpoint,
            tensorboard=chosen.tensorboard,
            quiet=chosen.quiet,
            seed=chosen.seed,
            epochs=chosen.epochs,
            batch_size=chosen.batch_size,
            lr=chosen.lr,
            weight_decay=chosen.weight_decay,
            label_smoothing=chosen.label_smoothing,
            ema_decay=chosen.ema_decay,
            target_accuracy=chosen.target_accuracy,
            precision=chosen.precision,
            channels_last=chosen.channels_last,
            compile=chosen.compile,
            checkpoint_every=chosen.checkpoint_every,
            resume=not chosen.no_resume,
            device=chosen.device or device,
        )
        if processes.is_main_process():
            _show_training(result, chosen.json)
    return 130 if result["stopped"].startswith("stopped at step") else 0


def _show_training(result: dict, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))
        return
    done = len(result["val_accuracy"])
    print(f"{result['model']} on {result['data']}: {result['parameters']:,} parameters")
    if done:
        print(
            f"validation accuracy {result['val_accuracy'][-1]:.2%} after {done} "
            f"epoch{'s' if done > 1 else ''} and "
            f"{result['seconds'][-1]:.1f} s of training"
        )
    if result["stopped"]:
        print(result["stopped"])
    if result["checkpoint"]:
        print(f"kept in {result['checkpoint']}; try: cnnbook evaluate {result['checkpoint']}")


def _evaluate(chosen: argparse.Namespace) -> int:
    from cnnbook import commands

    result, table = commands.evaluate(chosen.checkpoint, chosen.data, device=chosen.device)
    if chosen.json:
        print(json.dumps(result | {"classes": table.to_dicts()}, ensure_ascii=False))
    else:
        print(
            f"{result['model']} on {result['data']}: {result['images']:,} images, loss "
            f"{result['loss']:.4f}, accuracy {result['accuracy']:.2%}\n{table}"
        )
    return 0


def _predict(chosen: argparse.Namespace) -> int:
    from cnnbook import commands
    from cnnbook.tables import Table

    rows = commands.predict(chosen.checkpoint, chosen.image, chosen.top, device=chosen.device)
    _show(Table(rows, formats={"probability": ".1%"}), chosen.json)
    return 0


def _bench(chosen: argparse.Namespace) -> int:
    from cnnbook import bench, results

    if chosen.record is not None and len(chosen.part) != 1:
        raise ValueError(
            f"--record keeps one part, got {len(chosen.part)}: cnnbook bench PART --record FOLDER"
        )
    result = bench.run(
        chosen.part,
        quick=chosen.quick,
        repeats=chosen.repeats,
        networks=chosen.model,
        limit=chosen.limit,
        data_set=chosen.data,
        seeds=chosen.seeds,
    )
    content = result.to_dict()
    if chosen.record is not None:
        measured = {name: value for name, value in content.items() if name != "schema"}
        path = results.record(**measured, folder=chosen.record or None)
        print(f"recorded in {path}", file=sys.stderr)
    if chosen.output:
        result.save(chosen.output)
    print(results.as_json(content).decode().strip() if chosen.json else result)
    if chosen.plot:
        result.plot().save(chosen.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
