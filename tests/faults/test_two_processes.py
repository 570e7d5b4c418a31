"""Of two processes that train together one comes to harm: the other ends soon, with a sentence."""

from pathlib import Path

import pytest

PAIR = Path(__file__).parent / "pair.py"
HANGS = ("hangs", "is stopped", "never starts")
# Which of the two, what happens to it, and after which step.
HAPPENS = [
    (0, "fails, and threads are late", 2), (0, "has no room on its disk", 2),
    (0, "SIGKILL", 1), (0, "SIGKILL", 4),
    (1, "SIGKILL", 2), (1, "SIGSEGV", 3), (0, "leaves", 3), (1, "leaves", 2), (0, "fails", 2),
    (1, "fails", 3), (0, "has no room on its disk", 5), (0, "SIGTERM", 3), (1, "SIGTERM", 2),
    (1, "SIGINT", 3), (1, "hangs", 3), (0, "hangs", 2), (1, "is stopped", 2),
    (0, "never starts", 0), (1, "never starts", 0), (1, "SIGKILL", 3),
]  # fmt: skip


@pytest.fixture(scope="module")
def order(asking, memory_folder):
    """A function that has two processes train, and returns how each of them ended."""
    with asking(PAIR) as ask:

        def order(name, **what):
            files = {"path": str(memory_folder / name), "result": str(memory_folder / "result")}
            return ask(**{"timeout": 240.0, "patience": 480.0} | files | what)

        yield order


def harm_of(who, what, answers):
    """Return what is wrong with how the two processes ended, or None."""
    harmed, other = answers[who], answers[1 - who]
    said = other.get("error", "")
    if other["status"] is None:
        return f"{who} {what}: the other one did not end: {answers}"
    if what in ("SIGTERM", "SIGINT"):
        right = "losses" in other and "losses" in harmed
    elif what in HANGS:
        right = said.startswith("TimeoutError: ") and "waited too long" in said
    else:
        right = said.startswith("ConnectionError: ") and "has lost another one" in said
    if what.startswith("fails"):
        right = right and harmed["error"] == "ZeroDivisionError: a mistake in one of them"
    if what == "has no room on its disk":
        right = right and harmed["error"].startswith("CheckpointError: could not write")
        right = right and "File too large" in harmed["error"]
    return None if right else f"{who} {what}: {answers}"


def test_the_other_process_says_so_and_both_resume_to_the_bit(faults, order):
    number = faults.number(
        "two processes, one killed, hung, out of disk", quick=2, full=len(HAPPENS)
    )
    undisturbed = order("undisturbed")
    assert all("losses" in each for each in undisturbed), undisturbed
    for attempt, (who, what, step) in enumerate(HAPPENS[:number]):
        # The time that the other one waits is long enough for a step on a busy machine.
        limits = {"timeout": 20.0, "patience": 240.0} if what in HANGS else {}
        answers = order(f"run {attempt}", who=who, what=what, step=step, **limits)
        faults.tried(harm_of(who, what, answers))
        for rank, rest in enumerate(order(f"run {attempt}")):
            for key in ("losses", "weights"):
                if rest.get(key) != undisturbed[rank][key]:
                    faults.harm[f"{who} {what}: resumed to other {key}: {rest}"[:900]] += 1
