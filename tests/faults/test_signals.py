"""A training that is killed, interrupted or asked to end goes on as if nothing had happened."""

import random
import signal
from pathlib import Path

import pytest

TRAINER = Path(__file__).parent / "trainer.py"
WORKS = ("plain", "averaged", "own optimizer", "best epoch")
SIGNALS = ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT")
STDERR = ("as it was", "dead pipe", "full disk", "closed")
WITHIN = ("write", "fsync", "chmod", "replace")  # the moments of writing a file


@pytest.fixture(scope="module")
def order(asking, memory_folder):
    """A function that has something trained, and returns how that ended."""
    files = {"path": str(memory_folder / "run"), "result": str(memory_folder / "result")}
    with asking(TRAINER) as ask:
        yield lambda **what: ask(**what, **files)


@pytest.fixture(scope="module")
def undisturbed(order, memory_folder):
    """What each training ends with, and how long it takes."""
    found = {}
    for work in WORKS:
        found[work] = order(work=work)
        assert "error" not in found[work], found[work]
        clear(memory_folder)
    return found


def clear(folder):
    for file in folder.iterdir():
        file.unlink()


def fault(draw, seconds):
    """Draw a signal and its moment: any, or one while a checkpoint is being written."""
    what = {"signal": draw.choice(SIGNALS), "stderr": draw.choice(STDERR)}
    if draw.random() < 0.5:
        return what | {"after": draw.uniform(0, 0.9 * seconds)}
    return what | {
        "within": draw.choice(WITHIN),
        "nth": draw.randint(1, 4),
        "before": draw.random() < 0.5,
    }


def harm_of(what, answer, left):
    """Return what a fault did that it must not do, or None."""
    number = getattr(signal, what["signal"])
    if answer["status"] is None:
        return f"{what['signal']}: did not end: {answer}"
    if any(name.endswith(".part") for name in left) and number != signal.SIGKILL:
        return f"{what['signal']}: left an unfinished file"
    if "error" in answer:
        # Ctrl-C before or after a training is Python's.
        outside = (
            "KeyboardInterrupt" in answer["error"] and "take_steps(run)" not in answer["error"]
        )
        if "within" in what or number != signal.SIGINT or not outside:
            return f"{what['signal']}: {answer['error'][-900:]}"
    if "within" in what and number == signal.SIGKILL and answer["status"] != number:
        return f"SIGKILL within {what['within']} ended with {answer}"
    if "within" in what and number != signal.SIGKILL and "history" not in answer:
        return f"{what['signal']} within {what['within']} ended with {answer['status']}"
    return None


def test_killed_and_interrupted_trainings_resume_to_the_bit(
    faults, order, undisturbed, memory_folder
):
    number = faults.number("signals at random moments, writes included", quick=8, full=320)
    draw = random.Random(25)
    tried = 0
    while tried < number:
        work, killed = draw.choice(WORKS), False
        for _ in range(draw.choice((1, 1, 2, 3))):  # one after the other, without a clean end
            what = fault(draw, undisturbed[work]["seconds"])
            killed = killed or what["signal"] == "SIGKILL"
            before = {file.name for file in memory_folder.iterdir()}
            answer = order(work=work, **what)
            left = {file.name for file in memory_folder.iterdir()} - before
            if answer.get("sent", True):  # the training may end before the n-th writing
                faults.tried(harm_of(what, answer, left))
                tried += 1
            if answer.get("history") == undisturbed[work]["history"]:
                break
        rest = order(work=work)
        for key in ("weights", "history"):
            if rest.get(key) != undisturbed[work][key]:
                faults.harm[f"{work}, {what}: other {key}: {rest.get('error', '')[-200:]}"] += 1
        left = {file.name for file in memory_folder.iterdir()} - {"run", "result"}
        if left and not (killed and {name[-5:] for name in left} <= {".part", ".lock"}):
            faults.harm[f"{work}, {what}: left {left}"] += 1
        clear(memory_folder)
