"""The commands and options of ``cnnbook``, and their ``--help``."""

import argparse
import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cnnbook

if TYPE_CHECKING:  # Python itself cannot subscript the class
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

DESCRIPTION = """\
Build the papers' convolutional networks by name, train them, use them, and
time them.

For help on a command: cnnbook COMMAND --help."""

EXAMPLES = """\
examples:
  cnnbook models
  cnnbook train resnet18 --data fashion-mini --option width=0.125 --epochs 1
  cnnbook evaluate resnet18-fashion-mini.safetensors
  cnnbook predict resnet18-fashion-mini.safetensors boot.png

To use your own network, register it in a module toy.py in this folder:
  from cnnbook.models import ModelSpec, register_model
  register_model("toy", ModelSpec(build=Toy, paper="nobody 2026",
                                  input_shape=(1, 28, 28), num_classes=10))
Toy is a function or class that takes num_classes and in_channels. Then every
command accepts the name:
  cnnbook --import toy train toy"""

# The options of data.Augment, named here because --help need not wait for torch.
TRANSFORMS = (
    *("rotate", "translate", "scale", "shear", "crop", "flip", "contrast", "brightness"),
    *("erase", "erase_area", "fill", "interpolation"),
)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are those of the command that was called, and suggest a cure."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        chosen, unknown = self.parse_known_args(args, namespace)
        chosen.modules += getattr(chosen, "more_modules", [])
        command = self.command(chosen.command) if chosen.command else self
        if unknown:
            command.error(_unrecognized(command, unknown, networks=chosen.command == "train"))
        if chosen.command == "train" and chosen.no_checkpoint and chosen.no_resume:
            command.error("argument --no-resume: not allowed with argument --no-checkpoint")
        return chosen

    def command(self, name: str) -> argparse.ArgumentParser:
        """Return the parser of a command."""
        (commands,) = (a for a in self._actions if isinstance(a, argparse._SubParsersAction))
        found: argparse.ArgumentParser = commands.choices[name]
        return found


def _unrecognized(command: argparse.ArgumentParser, words: Sequence[str], networks: bool) -> str:
    """Say what a command did not understand, and what may have been meant."""
    message = f"unrecognized arguments: {' '.join(words)}"
    first = next((i for i, word in enumerate(words) if word.startswith("--")), None)
    if first is None:
        return message
    name, sign, value = words[first].partition("=")
    if not sign:
        follows = words[first + 1 : first + 2]
        value = follows[0] if follows and not follows[0].startswith("-") else "VALUE"
    near = difflib.get_close_matches(name, command._option_string_actions, n=1, cutoff=0.75)
    if near:
        return f"{message}; did you mean {near[0]}?"
    if not networks:
        return message
    option = name.removeprefix("--").replace("-", "_")
    if option in TRANSFORMS:
        return f"{message}; random transforms of the images: --augment {option}={value}"
    return f"{message}; options of the network: --option {option}={value}"


def build_parser() -> _Parser:
    """Return the parser of all commands.

    Returns
    -------
    argparse.ArgumentParser
        Its result has the command's name as ``command``, None if there is none, and its options.

    Examples
    --------
    >>> chosen = build_parser().parse_args(["train", "lenet5", "--epochs", "3"])
    >>> chosen.command, chosen.model, chosen.epochs, chosen.lr
    ('train', 'lenet5', 3, 0.05)
    """
    top = _Parser(
        prog="cnnbook",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"cnnbook {cnnbook.__version__}")
    _import_option(top, "modules")
    commands = top.add_subparsers(
        dest="command", metavar="COMMAND", title="commands", parser_class=argparse.ArgumentParser
    )
    _models(commands)
    _data(commands)
    _train(commands)
    _evaluate(commands)
    _predict(commands)
    _experiment(commands)
    _bench(commands)
    return top


def _import_option(parser: argparse.ArgumentParser, dest: str) -> None:
    parser.add_argument(
        "--import", dest=dest, action="append", default=[], metavar="MODULE",
        help="import this Python module first, from this folder or an installed package, so that "
        "the networks it registers are known by name; may be repeated",
    )  # fmt: skip


def _command(
    commands: "_Commands",
    name: str,
    help: str,
    description: str,
    examples: str,
) -> argparse.ArgumentParser:
    added = commands.add_parser(
        name,
        help=help,
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    added.add_argument("--json", action="store_true", help="print JSON instead of text")
    _import_option(added, "more_modules")  # people type it after the command, too
    return added


def _models(commands: "_Commands") -> None:
    parser = _command(
        commands,
        "models",
        "list the networks",
        """\
List the networks that can be built by name: the paper each comes from, the image
it was made for (channels × height × width), its parameters, its multiply–adds
(MACs) for one such image, and its last layers; and which have weights trained on
ImageNet: their license and top-1 accuracy as published. `cnnbook predict` takes
these by name, and `cnnbook train --option weights=imagenet` starts from them. For
networks that are named, list options, as `cnnbook train --option` takes them, and
where the weights come from.""",
        """\
  cnnbook models
  cnnbook models vgg16 resnet50
  cnnbook models resnet""",
    )
    parser.add_argument(
        "name", nargs="*", metavar="NAME",
        help="list only these networks, or those whose names begin like this",
    )  # fmt: skip


def _data(commands: "_Commands") -> None:
    parser = _command(
        commands,
        "data",
        "list, fetch or verify data sets",
        """\
List the data sets and where they are on this machine; fetch one, which downloads
what is not here; or verify one, which reads all of its files and counts its images.""",
        """\
  cnnbook data list
  cnnbook data fetch fashion-mnist
  cnnbook data verify imagefolder:PATH""",
    )
    parser.add_argument(
        "action",
        nargs="?",
        default="list",
        choices=["list", "fetch", "verify"],
        help="what to do; fetch downloads what is not on this machine, then verifies it (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="name of the data set to fetch or to verify"
    )


def _train(commands: "_Commands") -> None:
    parser = _command(
        commands,
        "train",
        "train a network",
        """\
Train a network with stochastic gradient descent (Nesterov momentum 0.9, one-cycle
learning rate), evaluate it after each epoch on validation images, which are set aside
from the training part of the data set, and save it to a file that `cnnbook evaluate`
and `cnnbook predict` read. The test part is used once, at the end. Image folders have
a validation part of their own, and no test part.

Ctrl-C stops after the current step and saves the state; running the same command
again resumes from there.""",
        """\
  cnnbook train resnet18 --data fashion-mini --option width=0.125 --epochs 1
  cnnbook train resnet20 --data fashion-mnist --augment flip=0.5 --augment translate=0.1
  torchrun --nproc-per-node=8 -m cnnbook train resnet50 --data imagefolder:PATH""",
    )
    parser.add_argument("model", metavar="MODEL", help="name of the network, see `cnnbook models`")

    what = parser.add_argument_group("network and data")
    what.add_argument(
        "--data", default="fashion-mini", metavar="NAME",
        help="data set, see `cnnbook data list`; imagefolder:PATH is a folder with "
        "train/CLASS/IMAGE and val/CLASS/IMAGE (default: %(default)s)",
    )  # fmt: skip
    what.add_argument(
        "--size", type=int, metavar="PIXELS",
        help="height and width of the images (default: what the network was made for, or the "
        "images' own)",
    )  # fmt: skip
    what.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE",
        help="option of the network, for example width=0.25; may be repeated; `cnnbook models "
        "MODEL` lists them",
    )  # fmt: skip
    what.add_argument(
        "--augment", action="append", default=[], metavar="NAME=VALUE",
        help="random transform of the training images, for example rotate=10 (degrees) or flip=0.5 "
        f"(probability); may be repeated; NAME is one of {', '.join(TRANSFORMS)}",
    )  # fmt: skip

    what.add_argument(
        "--val-fraction", type=float, metavar="FRACTION",
        help="fraction of the training images that is set aside for validation, the same images "
        "whatever the seed; 0 trains on all of them, without validation (default: 0.1; an image "
        "folder has a validation part)",
    )  # fmt: skip

    how = parser.add_argument_group("training")
    how.add_argument(
        "--epochs", type=int, metavar="N",
        help="passes over the training images (default: 10)",
    )  # fmt: skip
    how.add_argument(
        "--batch-size", type=int, default=64, metavar="N",
        help="images per step, over all processes together (default: %(default)s)",
    )  # fmt: skip
    how.add_argument(
        "--lr", type=float, default=0.05, metavar="RATE",
        help="largest learning rate (default: %(default)s)",
    )  # fmt: skip
    how.add_argument(
        "--weight-decay", type=float, default=0.0, metavar="FACTOR",
        help="weight decay (default: %(default)s)",
    )  # fmt: skip
    how.add_argument(
        "--label-smoothing", type=float, default=0.0, metavar="FRACTION",
        help="fraction of the target that is spread over all classes, 0 to 1 (default: "
        "%(default)s)",
    )  # fmt: skip
    how.add_argument(
        "--ema-decay", type=float, metavar="DECAY",
        help="evaluate and save an exponential moving average of the weights with this decay, for "
        "example 0.999 (default: no average)",
    )  # fmt: skip
    how.add_argument(
        "--target-accuracy", type=float, metavar="FRACTION",
        help="stop after the first epoch with this validation accuracy, 0 to 1 (default: never)",
    )  # fmt: skip
    how.add_argument(
        "--patience", type=int, metavar="EPOCHS",
        help="stop when the validation loss has not fallen for this many epochs; the learning "
        "rate falls as if all --epochs were trained (default: never)",
    )  # fmt: skip
    how.add_argument(
        "--time-limit", type=float, metavar="SECONDS",
        help="stop after this many seconds of training (default: never)",
    )  # fmt: skip
    how.add_argument(
        "--seed", type=int, default=0, metavar="N",
        help="seed of the weights, the order of the images and their transforms (default: "
        "%(default)s)",
    )  # fmt: skip

    where = parser.add_argument_group("hardware")
    where.add_argument("--device", metavar="DEVICE", help=_DEVICE)
    where.add_argument(
        "--precision", default="auto", metavar="FORMAT",
        help="number format of the activations: float32, bfloat16, float16, or auto: bfloat16 "
        "or float16 on a CUDA GPU, whichever it supports, and float32 elsewhere (default: "
        "%(default)s)",
    )  # fmt: skip
    where.add_argument(
        "--channels-last", action=argparse.BooleanOptionalAction, default=None,
        help="keep the channels innermost in memory, or not (default: where that is faster)",
    )  # fmt: skip
    where.add_argument(
        "--compile", action="store_true",
        help="use torch.compile, which takes a minute at the start and pays off in long runs on "
        "a GPU",
    )  # fmt: skip

    output = parser.add_argument_group("files and messages")
    saved = output.add_mutually_exclusive_group()
    saved.add_argument(
        "--checkpoint", metavar="FILE",
        help="file to save the network to; if it exists, training resumes from it (default: "
        "MODEL-DATA.safetensors in this folder)",
    )  # fmt: skip
    saved.add_argument("--no-checkpoint", action="store_true", help="save nothing")
    output.add_argument(
        "--checkpoint-every", type=int, metavar="STEPS",
        help="save after every STEPS steps (default: once per epoch)",
    )  # fmt: skip
    output.add_argument(
        "--no-resume", action="store_true", help="start over and replace the file, if there is one"
    )
    output.add_argument(
        "--tensorboard", metavar="FOLDER", help="write TensorBoard's log into this folder"
    )
    output.add_argument("--quiet", action="store_true", help="print nothing but the result")


_TRAINED = (
    "file that `cnnbook train` wrote, or, if there is no such file, name of a network with "
    "published weights, see `cnnbook models`"
)
_DEVICE = "cpu, cuda, cuda:1, mps … (default: the fastest on this machine)"


def _evaluate(commands: "_Commands") -> None:
    parser = _command(
        commands,
        "evaluate",
        "evaluate a trained network on test images",
        """\
Compute the loss and accuracy of a trained network on test images, and for each
class its accuracy and the class it is most often confused with.""",
        """\
  cnnbook evaluate resnet18-fashion-mini.safetensors
  cnnbook evaluate resnet18-fashion-mini.safetensors --data fashion-mnist --json""",
    )
    parser.add_argument("model", metavar="MODEL", help=_TRAINED)
    parser.add_argument(
        "--data", metavar="NAME",
        help="data set with the same classes (default: the one that the network was trained on)",
    )  # fmt: skip
    parser.add_argument("--device", metavar="DEVICE", help=_DEVICE)


def _predict(commands: "_Commands") -> None:
    parser = _command(
        commands,
        "predict",
        "classify pictures",
        """\
Classify pictures: print the most probable classes of each. A picture may have any
size, but should look like the images that the network was trained on.""",
        """\
  cnnbook predict resnet18-fashion-mini.safetensors boot.png
  cnnbook predict efficientnet_lite0 *.jpg --top 1 --json""",
    )
    parser.add_argument("model", metavar="MODEL", help=_TRAINED)
    parser.add_argument("image", nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument(
        "--top", type=int, default=3, metavar="N",
        help="how many classes to name for each picture (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--device", metavar="DEVICE", help=_DEVICE)


def _experiment(commands: "_Commands") -> None:
    parser = _command(
        commands,
        "experiment",
        "run one of the book's experiments, at any size",
        """\
Run one of the book's experiments. Without a name, list them.

Learning rates are chosen first, on validation images and for each arm of the
comparison; then each arm is trained with several seeds. What is finished is kept:
after an interruption, the same command continues.""",
        """\
  cnnbook experiment
  cnnbook experiment degradation
  cnnbook experiment degradation --size desk --record""",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="which one")
    parser.add_argument(
        "--size", default="live", metavar="SIZE",
        help="live (at most a minute), desk (up to two hours on two cores) or full (minutes on a "
        "large GPU) (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--arm", action="append", metavar="NAME", help="only this arm; may be repeated"
    )
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="how many runs of each arm (default: the size's)"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N",
        help="trainings at the same time (default: one per core, 8 on a GPU; live: 1)",
    )  # fmt: skip
    parser.add_argument("--data", metavar="NAME", help="data set (default: the experiment's own)")
    parser.add_argument("--no-resume", action="store_true", help="train everything again")
    parser.add_argument(
        "--record", metavar="FOLDER", nargs="?", const="",
        help="save the result as JSON, named after experiment, size and device, in this folder "
        "(without one: in the package)",
    )  # fmt: skip
    parser.add_argument("--plot", metavar="FILE", help="save the figure: .png, .svg or .pdf")


def _bench(commands: "_Commands") -> None:
    parser = _command(
        commands,
        "bench",
        "compare this package's speed with others', or run a recorded experiment",
        """\
Compare this package's speed with the usual alternatives', or run one of the
experiments that the book shows as recorded runs.

comparisons (all four if no part is named):
  augment         augmenting images, compared with torchvision and kornia
  epoch           one epoch of LeNet-5, compared with a DataLoader
  accuracy        time to 88 % on Fashion-MNIST, compared with tutorials' networks
  models          one training step, compared with torchvision's networks
experiments:
  throughput      training images per second of the full-size networks
  ceiling         images per second of fit, compared with one CUDA graph
  recipe          94 % of Fashion-MNIST in a few seconds of a GPU""",
        """\
  cnnbook bench
  cnnbook bench throughput --model resnet50 --quick
  cnnbook bench throughput --model resnet50 --precision bfloat16 --mode graph
  cnnbook bench throughput --record .""",
    )
    parser.add_argument("part", nargs="*", metavar="PART", help="what to run, see above")
    parser.add_argument(
        "--quick", action="store_true",
        help="use little data, to check that everything runs; the numbers mean little",
    )  # fmt: skip
    parser.add_argument(
        "--model", action="append", metavar="NAME",
        help="in models, throughput and ceiling: only this network; may be repeated",
    )  # fmt: skip
    for option, names in (
        ("--precision", "float32, bfloat16 or float16"),
        ("--layout", "contiguous or channels_last"),
        ("--mode", "eager, compile or graph (one CUDA graph of the step)"),
    ):
        parser.add_argument(
            option, action="append", metavar="NAME",
            help=f"in throughput: only {names}; may be repeated",
        )  # fmt: skip
    parser.add_argument(
        "--batch", type=int, metavar="N",
        help="in throughput and ceiling: images per step; throughput halves it until it fits",
    )  # fmt: skip
    parser.add_argument(
        "--data", metavar="NAME",
        help="in recipe: data set (default: fashion-mnist)",
    )  # fmt: skip
    parser.add_argument(
        "--repeats", type=int, default=5, metavar="N",
        help="rounds in which the contenders take turns (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N",
        help="in recipe: how many times the network is trained (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--time-limit", type=float, default=300, metavar="SECONDS",
        help="in accuracy: longest training time of each contender (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="save the result as JSON to this file, again after every row",
    )
    parser.add_argument(
        "--record", metavar="FOLDER", nargs="?", const="",
        help="save the result of one part as a recorded run, named after part and device, in this "
        "folder (without one: in the package)",
    )  # fmt: skip
    parser.add_argument(
        "--plot", metavar="FILE", help="plot the ratios to this file: .png, .svg or .pdf"
    )
