"""What callbacks freeze, thaw or regroup in training is so in the resumed run, too."""

import pytest
import torch
from torch import nn

from cnnbook import training
from cnnbook.training.made_of import plain

OPTIONS = {"epochs": 4, "batch_size": 32, "device": "cpu", "progress": False}


class Scaled(nn.Module):
    """A loss that learns."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, scores, labels):
        return nn.functional.cross_entropy(scores * self.scale[0] + self.scale[1], labels)


class After(training.Callback):
    """Changes something after an epoch."""

    def __init__(self, change, epoch=1):
        self.change, self.epoch = change, epoch

    def on_epoch_end(self, run):
        if run.epoch == self.epoch:
            self.change(run)


class StopAt(training.Callback):
    def __init__(self, step):
        self.step = step

    def on_step(self, run):
        if run.step == self.step:
            run.stop()


def network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Linear(16, 5))
    net.append(nn.BatchNorm1d(5))
    net[1].bias.requires_grad_(False)
    net[2].eval()
    return net


def thaw(run):
    run.model[1].requires_grad_(True)


def freeze(run):
    run.model[3].weight.requires_grad_(False)


def freeze_the_loss(run):
    run.val_loss_fn.requires_grad_(False)


def stay_in_evaluation(run):
    run.in_evaluation.add(run.model[4])


def train_the_averages(run):
    run.in_evaluation.clear()


def add_a_group(run):
    thaw(run)
    run.optimizer.add_param_group({"params": list(run.model[1].parameters()), "lr": 0.01})


def add_a_named_group(run):
    run.optimizer.add_param_group({"params": list(run.model[1].named_parameters("1")), "lr": 0.01})


def move_a_parameter(run):
    first, second = run.optimizer.param_groups
    second["params"].insert(0, first["params"].pop(0))


def swap_two(run):
    first, second = run.optimizer.param_groups
    first["params"], second["params"] = second["params"], first["params"]


def remove_a_group(run):
    for parameter in run.optimizer.param_groups.pop()["params"]:
        del run.optimizer.state[parameter]


def default(net, loss):
    return {}


def of_all(net, loss):
    sgd = torch.optim.SGD([*net.parameters(), *loss.parameters()], lr=0.05, momentum=0.9)
    return {"optimizer": sgd}


def of_the_head(net, loss):
    sgd = torch.optim.SGD(net[3].parameters(), lr=0.05, momentum=0.9)
    return {"optimizer": sgd, "scheduler": torch.optim.lr_scheduler.StepLR(sgd, 3, 0.5)}


def named(net, loss):
    return {"optimizer": torch.optim.AdamW(net[3].named_parameters("3"), lr=0.01)}


def two_groups(net, loss):
    groups = [{"params": list(net[i].parameters()), "lr": 0.05 / i} for i in (1, 3)]
    return {"optimizer": torch.optim.SGD(groups, momentum=0.9, weight_decay=0.01)}


CASES = [
    (default, thaw),
    (default, freeze),
    (default, stay_in_evaluation),
    (default, train_the_averages),
    (of_all, thaw),
    (of_all, freeze_the_loss),
    (of_the_head, add_a_group),
    (named, add_a_named_group),
    (two_groups, move_a_parameter),
    (two_groups, swap_two),
    (two_groups, remove_a_group),
]


def images():
    torch.manual_seed(1)
    return torch.randn(128, 1, 8, 8), torch.randint(0, 5, (128,))


def trained(make, change, *callbacks, **options):
    net, loss = network(), Scaled()
    given = {**make(net, loss), **OPTIONS, **options}
    changing = [] if change is None else [After(change)]
    history = training.fit(net, images(), loss=loss, callbacks=[*changing, *callbacks], **given)
    return net, history


@pytest.mark.parametrize("stop", [4, 10])
@pytest.mark.parametrize(("make", "change"), CASES)
def test_a_resumed_run_goes_on_with_what_a_callback_changed(make, change, stop, tmp_path):
    net, history = trained(make, change)
    _, plain = trained(make, None)
    assert history.step_loss != plain.step_loss  # the change matters
    for step in (stop, stop + 1):  # also if it is resumed twice
        trained(make, change, StopAt(step), checkpoint=tmp_path / "run")
    resumed, rest = trained(make, change, checkpoint=tmp_path / "run")
    assert rest.step_loss == history.step_loss
    for name, value in net.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    grads = {name: p.requires_grad for name, p in net.named_parameters()}
    assert grads == {name: p.requires_grad for name, p in resumed.named_parameters()}


def test_the_same_objects_are_resumed_as_they_are(tmp_path):
    net = network()
    sgd = torch.optim.SGD(net[3].parameters(), lr=0.05, momentum=0.9)
    options = {**OPTIONS, "optimizer": sgd, "checkpoint": tmp_path / "run"}
    training.fit(net, images(), callbacks=[After(add_a_group), StopAt(10)], **options)
    rest = training.fit(net, images(), callbacks=[After(add_a_group)], **options)

    def again(net, loss):
        return {"optimizer": torch.optim.SGD(net[3].parameters(), lr=0.05, momentum=0.9)}

    fresh = network()
    whole = training.fit(
        fresh, images(), callbacks=[After(add_a_group)], **again(fresh, None), **OPTIONS
    )
    assert rest.step_loss == whole.step_loss


def add_a_layer(run):
    run.model.append(nn.Dropout(0.1))
    run.in_evaluation.add(run.model[5])


def add_someone_elses(run):
    run.optimizer.add_param_group({"params": [torch.zeros(1, requires_grad=True)]})


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        (default, add_a_layer, "layer 5, which was in evaluation mode, is not in the network; .*"),
        (
            of_all,
            add_someone_elses,
            "a callback has added a parameter that is neither the network's nor the loss's to "
            "group 2 of the optimizer, and it is not found again: give it to the optimizer",
        ),
    ],
)
def test_what_is_not_found_again_is_refused(make, change, message, tmp_path):
    trained(make, change, StopAt(10), checkpoint=tmp_path / "run")
    net, loss = network(), Scaled()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    options = {**make(net, loss), **OPTIONS, "checkpoint": tmp_path / "run", "loss": loss}
    with pytest.raises(training.CheckpointError, match=message):
        training.fit(net, images(), callbacks=[After(change)], **options)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [p.requires_grad for p in net.parameters()] == [
        p.requires_grad for p in network().parameters()
    ]


class Refuses(training.Callback):
    """Its state, whichever that is; what stands before it in the file has been loaded by then."""

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        raise ValueError("not this")


def of_tensors(net, loss):
    rate = torch.tensor(0.05)
    adam = torch.optim.Adam([*net[3].parameters(), *loss.parameters()], lr=rate)
    return {"optimizer": adam, "scheduler": torch.optim.lr_scheduler.StepLR(adam, 3, 0.5)}


def state_of(net, loss, options):
    """What is left of a run in objects of one's own, in values."""
    optimizer = options["optimizer"]
    return plain(
        {
            "weights": [*net.state_dict().values(), *loss.state_dict().values()],
            "trained": [p.requires_grad for p in [*net.parameters(), *loss.parameters()]],
            "optimizer": optimizer.state_dict(),
            "parameters": [[id(p) for p in g["params"]] for g in optimizer.param_groups],
            "scheduler": options["scheduler"].state_dict(),
        }
    )


@pytest.mark.parametrize("make", [of_the_head, of_tensors])
@pytest.mark.parametrize("used", [False, True])
def test_a_refusal_leaves_everything_as_it_was(make, used, tmp_path):
    def regroup(run):
        add_a_group(run)
        freeze(run)

    path = tmp_path / "run"
    trained(make, regroup, StopAt(10), Refuses(), checkpoint=path)
    net, loss = network(), Scaled()
    given = {**make(net, loss), **OPTIONS, "loss": loss}
    if used:  # before, so that it has a state
        x, y = images()
        loss(net(x), y).backward()
        given["optimizer"].step()
    before = state_of(net, loss, given)
    tensors = [g["lr"] for g in given["optimizer"].param_groups]
    with pytest.raises(training.CheckpointError, match="not this"):
        training.fit(net, images(), callbacks=[After(regroup), Refuses()], **given, checkpoint=path)
    assert state_of(net, loss, given) == before
    after = [g["lr"] for g in given["optimizer"].param_groups]
    assert all(a is b for a, b in zip(after, tensors, strict=True))


def test_other_groups_than_before_are_refused(tmp_path):
    def of_the_first(net, loss):
        sgd = torch.optim.SGD(net[1].parameters(), lr=0.05, momentum=0.9)
        return {"optimizer": sgd, "scheduler": torch.optim.lr_scheduler.StepLR(sgd, 3, 0.5)}

    trained(of_the_head, add_a_group, StopAt(10), checkpoint=tmp_path / "run")
    message = r"of another run: optimizer parameters was \[\['3\.weight', '3\.bias'\]\], is \[\['1"
    with pytest.raises(training.CheckpointError, match=message):
        trained(of_the_first, add_a_group, checkpoint=tmp_path / "run")
