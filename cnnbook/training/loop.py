"""The training loop: everything that happens to the weights, on one screen.

:func:`cnnbook.training.fit` prepares a :class:`cnnbook.training.Run` and hands it to
:func:`train`. What is not training (progress, checkpoints, stopping, averaging) is in callbacks.
"""

from cnnbook.training.device import autocast, explain_errors, seed_generators
from cnnbook.training.run import Run


def train(run: Run) -> None:
    """Take the remaining steps, or those until a callback stops the run."""
    network, device, precision = run.network, run.device, run.precision
    optimizer, scheduler, scaler = run.optimizer, run.scheduler, run.scaler
    run.call("on_fit_begin")
    while not run.agree_to_stop() and run.step < run.total_steps:
        run.training_mode()
        for x, y, weight in run.rest_of_epoch():
            # Seeded by its number, a step draws the same dropout masks
            # in a resumed run.
            seed_generators(run.seed_of_step(), device)
            with explain_errors(network, x, run.output):
                with autocast(device, precision):
                    output = network(x)
                    loss = run.loss_fn(output, y)
                optimizer.zero_grad()
                # The scaler acts in float16 only. The weight is 1 unless several
                # processes share the batch in unequal parts.
                scaler.scale(loss * weight).backward()
            scaler.step(optimizer)
            scaler.update()
            if scheduler is not None:
                scheduler.step()

            run.note_step(output, loss, weight)
            run.call("on_step")
            if run.epoch_done:
                run.end_epoch()
                run.validate()
                run.call("on_epoch_end")
            if run.agree_to_stop(every=10):
                break
    run.read_losses()
    run.call("on_fit_end")
