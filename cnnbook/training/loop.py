"""The training loop: everything that happens to the weights, on one screen.

:func:`cnnbook.training.fit` prepares a :class:`cnnbook.training.Run` and hands it to
:func:`train`. What is not training (progress, checkpoints, stopping, averaging) is in callbacks.
"""

from torch import Tensor

from cnnbook.training.device import autocast, seed_generators
from cnnbook.training.graphs import Steps
from cnnbook.training.run import Run


def train(run: Run) -> None:
    """Take the remaining steps, or those until a callback stops the run."""
    take_step = Steps(run, compute_gradients, update_weights)
    run.call("on_fit_begin")
    # An error in the validation ended the run that is resumed.
    if run.awaits_validation and run.validate():
        run.call("on_epoch_end")
    while not run.agree_to_stop() and run.step < run.total_steps:
        run.training_mode()
        for batch, weight in run.rest_of_epoch():
            # Seeded by its number, a step draws the same dropout masks
            # in a resumed run.
            seed_generators(run.seed_of_step(), run.device)
            loss = take_step(batch, weight)
            if run.scheduler is not None:
                run.scheduler.step()

            run.note_step(loss, weight)
            run.call("on_step")
            if run.epoch_done:
                run.end_epoch()
                if run.validate():
                    run.call("on_epoch_end")
            if run.agree_to_stop(every=10):
                break
    run.read_losses()
    run.call("on_fit_end")


def compute_gradients(run: Run, x: Tensor, y: Tensor, weight: float) -> Tensor:
    """Run the network forward and backward, and return the loss."""
    with autocast(run.device, run.precision):
        output = run.network(x)
        loss = run.loss_fn(output, y)
    run.optimizer.zero_grad()
    # The scaler acts in float16 only. The weight is 1 unless several
    # processes share the batch in unequal parts.
    run.scaler.scale(loss * weight).backward()
    run.count_right(output, y)
    return loss.detach()


def update_weights(run: Run) -> None:
    """Let the optimizer take its step."""
    run.scaler.step(run.optimizer)
    run.scaler.update()
