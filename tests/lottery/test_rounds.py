"""What lies between rounds: how they are pruned, where they start from, and the controls."""

import json
import shutil
from contextlib import suppress

import numpy as np
import pytest

import mirl
from lottery_run import Noise, StopError, run
from mirl.loggers import Logger
from mirl.lottery.control import controlled_masks, reinitialised
from mirl.lottery.rounds import GRADUAL_PRUNINGS, gradual_density
from reference import SMALL, UNUSED
from same import assert_same_run, assert_same_state

EPOCHS, STEPS = 2, 3

WAYS = {
    "one-shot": {"pruning": "one-shot"},
    "one-shot-layerwise": {"pruning": "one-shot", "scope": "layerwise", "rewind": "learning-rate"},
    "initial": {"pruning": "initial", "criterion": "snip", "criterion_batches": 2},
    "random": {"pruning": "initial", "criterion": "random", "scope": "erk", "seed": 4},
    "gradual": {"pruning": "gradual", "criterion": "movement"},
    "movement": {"criterion": "movement", "min_density": 0.1},
    "late": {"rewind": 4},
    "learning-rate": {"rewind": "learning-rate"},
    "fine-tune": {"rewind": "fine-tune", "min_lr": 1e-4},
    "channels": {"granularity": "channels", "exclude": ("norms", "dead")},
    "average": {"ema_decay": 0.9, "micro_batch": 1, "pruning": "one-shot"},
    "weighted": {"task_weighting": "uncertainty", "loss": {"l1": 1.0, "ssim": 0.1}},
    "paper-code": {"preset": "paper-code"},
}


class Stopping(Noise):
    """Batches that end with an error after so many."""

    def __init__(self, batches):
        self.left = batches

    def epoch(self, epoch, start=0):
        for batch in super().epoch(epoch, start):
            if self.left == 0:
                raise StopError
            self.left -= 1
            yield batch


def resumed(out, **settings):
    """A run that is stopped after every five batches."""
    for _ in range(40):
        with suppress(StopError):
            return run(out, data=Stopping(5), **settings)
    raise AssertionError("the run does not come on")


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parent")
    run(folder, rewind=2)
    return folder


@pytest.fixture(scope="module", params=WAYS)
def way(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return WAYS[request.param], folder, run(folder, **WAYS[request.param])


def test_every_way_keeps_the_same_shares_and_resumes_to_the_bit(way, tmp_path):
    settings, folder, result = way
    resumed(tmp_path, **settings)
    assert_same_run(tmp_path, folder)
    assert [record["round"] for record in result.rounds] == [0, 1, 2]
    if settings.get("granularity") == "channels":
        return
    for record in result.rounds:
        share = 0.7 ** record["round"]
        alive = record["density_prunable"]
        assert alive == pytest.approx(share, abs=0.01 + 0.03 * ("layerwise" in str(settings)))


class Long(Noise):
    """Epochs of so many steps that gradual pruning can go on step by step."""

    def __len__(self):
        return 30

    def epoch(self, epoch, start=0):
        batches = [*super().epoch(epoch), *super().epoch(epoch)] * 5
        yield from batches[start:]


def state(folder, round_):
    return mirl.load(folder / f"round_{round_:02d}.mirl.safetensors").state_dict()


def masks(folder, round_):
    return mirl.load(folder / f"round_{round_:02d}.mirl.safetensors").mask


def assert_pruned_as(folder, round_, model):
    """A packed file counts what the forward never uses as pruned."""
    found, expected = masks(folder, round_), model.mask
    assert_same_state({name: found[name] for name in expected}, expected)
    assert all(name.startswith(UNUSED) for name in found.keys() - expected.keys())


class Watch:
    """Keeps the network as each round begins, and the rates of its steps."""

    def __init__(self, model):
        self.model, self.begun, self.rates = model, [], []

    def round_start(self, *_):
        self.begun.append(self.model.state_dict())
        self.rates.append([])

    def step(self, step, loss, lr):
        self.rates[-1].append(lr)

    def __getattr__(self, event):
        return lambda *_: None


def watched(**settings):
    model = mirl.PromptIR(seed=3, **SMALL)
    watch = Watch(model)
    mirl.find_ticket(
        model,
        Noise(),
        **({"rounds": 2, "epochs": EPOCHS, "amount": 0.3, "lr": 1e-3} | settings),
        loggers=[watch],
    )
    return watch


class Also(Logger):
    """Prunes the network of each round once more, before it is trained."""

    def __init__(self, model):
        self.model = model

    def epoch_start(self, epoch, epochs, steps, done):
        if epoch == done == 0:
            mirl.prune(self.model, 0.2, include=("latent.*.weight",))


def test_a_logger_may_change_a_round_before_its_first_step(tmp_path):
    """And so it does where the run is resumed, wherever that is."""

    def also(out, data):
        model = mirl.PromptIR(seed=3, **SMALL)
        settings = {"rounds": 1, "epochs": EPOCHS, "amount": 0.3, "checkpoint_seconds": 0.0}
        return mirl.find_ticket(model, data, out=out, loggers=[Also(model)], **settings)

    result = also(tmp_path / "whole", Noise())
    assert result.rounds[0]["layers"]["latent.0.attn.qkv.weight"] < 0.9
    # Before the first step of round 0, within it, before that of round 1, and within that.
    for batches in (0, 2, 4, 0, 2):
        with pytest.raises(StopError):
            also(tmp_path / "stopped", Stopping(batches))
    also(tmp_path / "stopped", Noise())
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


def test_one_shot_prunes_the_dense_network_at_once(tmp_path):
    run(tmp_path, pruning="one-shot")
    for round_ in (1, 2):
        dense = mirl.PromptIR.from_state_dict(state(tmp_path, 0), mask={})
        mirl.prune(dense, 1 - 0.7**round_)
        assert_pruned_as(tmp_path, round_, dense)


@pytest.mark.parametrize(
    "settings",
    [
        {"scope": "layerwise"},
        {"min_density": 0.9},
        {"granularity": "2:4"},
        {"exclude": ("norms", "dead")},
        {"include": ("biases", "prompts")},
        {"criterion": "taylor"},
        {"preset": "paper-code"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_rounds_are_pruned_as_asked(tmp_path, settings):
    result = run(tmp_path, rounds=1, epochs=1, **settings)
    told = result.model.density(settings.get("preset", "default"))
    assert result.rounds[1]["density_prunable"] == told.prunable
    dense = mirl.PromptIR.from_state_dict(state(tmp_path, 0), mask={})
    mirl.prune(dense, 0.3, data=Noise().epoch(1), **settings)
    assert dense.mask
    assert_pruned_as(tmp_path, 1, dense)


@pytest.mark.parametrize("pruning", ["one-shot", "initial", "gradual"])
def test_layerwise_every_way_leaves_each_tensor_what_rounds_do(pruning, tmp_path):
    """The last convolution loses half as much in each round, and norms have few weights."""
    settings = {"scope": "layerwise", "amount": 0.4, "epochs": 1}
    found = run(tmp_path / "found", pruning=pruning, data=Long(), **settings)
    expected = run(tmp_path / "expected", **settings)
    for record, other in zip(found.rounds, expected.rounds, strict=True):
        assert record["layers"].keys() == other["layers"].keys()
        for name, density in record["layers"].items():
            count = np.prod(found.model.shapes[name])
            # Each round rounds.
            assert density == pytest.approx(other["layers"][name], abs=1.1 / count), name


def test_movement_is_that_of_the_round_before(tmp_path):
    run(tmp_path, criterion="movement", rounds=1, epochs=1)
    model = mirl.PromptIR(seed=3, **SMALL)
    trainer = mirl.Trainer(model, movement=True)
    for step, batch in enumerate(Noise().epoch(0)):
        trainer.lr = mirl.linear_warmup_cosine(step, 3, lr=1e-3)
        trainer.step(*batch)
    mirl.prune(model, 0.3, criterion=trainer.movement())
    assert_pruned_as(tmp_path, 1, model)


@pytest.mark.parametrize("criterion", ["snip", "random"])
def test_pruning_at_the_start_needs_no_training(tmp_path, criterion):
    data = Noise()
    run(tmp_path, pruning="initial", criterion=criterion, criterion_batches=2)
    for round_ in (1, 2):
        model = mirl.PromptIR(seed=3, **SMALL)
        batches = list(data.epoch(EPOCHS * round_))[:2]
        mirl.prune(model, 1 - 0.7**round_, criterion=criterion, data=batches, seed=(0, round_))
        assert_pruned_as(tmp_path, round_, model)


def test_late_rewinding_goes_to_the_step():
    watch = watched(rewind=4)
    model, data = mirl.PromptIR(seed=3, **SMALL), Noise()
    trainer = mirl.Trainer(model)
    rates = [mirl.linear_warmup_cosine(t, 6, warmup=1, lr=1e-3) for t in range(6)]
    batches = [batch for epoch in range(EPOCHS) for batch in data.epoch(epoch)]
    for rate, batch in zip(rates[:4], batches, strict=False):
        trainer.lr = rate
        trainer.step(*batch)
    late = model.state_dict()
    assert watch.rates == [rates, rates[4:], rates[4:]]
    for begun in watch.begun[1:]:
        for name, values in begun.items():
            if "weight" in name:
                kept = values != 0
                np.testing.assert_array_equal(values[kept], late[name][kept])
            elif "bias" in name:
                np.testing.assert_array_equal(values, late[name])


def test_losses_are_means_over_the_steps_that_were_taken(tmp_path):
    """Of a round that begins within an epoch, too."""
    taken = []

    class Losses(Logger):
        def round_start(self, *_):
            taken.append([])

        def step(self, step, loss, lr):
            taken[-1].append(loss)

    result = run(tmp_path, rewind=4, rounds=1, loggers=[Losses()])
    assert [len(losses) for losses in taken] == [6, 2]
    means = [[np.mean(taken[0][:3]), np.mean(taken[0][3:])], [np.mean(taken[1])]]
    for record, expected in zip(result.rounds, means, strict=True):
        assert record["loss"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("setting", "ending"),
    [("rewind_prompts", "prompt_param"), ("rewind_temperatures", "temperature")],
)
def test_prompts_and_temperatures_are_rewound_where_asked(setting, ending):
    initial = mirl.PromptIR(seed=3, **SMALL).state_dict()
    for asked in (True, False):
        begun = watched(rounds=1, **{setting: asked}).begun[1]
        of_kind = [name for name in begun if name.endswith(ending)]
        assert len(of_kind) > 2
        for name in of_kind:
            assert np.array_equal(begun[name], initial[name]) == asked, name


def test_a_warm_up_leaves_the_last_step():
    watch = watched(rounds=0, epochs=1, warmup_epochs=0.9)
    rates = [mirl.linear_warmup_cosine(t, 3, warmup=2, lr=1e-3) for t in range(3)]
    assert watch.rates == [rates]


def test_learning_rate_rewinding_and_fine_tuning_keep_the_weights():
    constant = [1e-4] * (EPOCHS * STEPS)
    for rewind, settings in (("learning-rate", {}), ("fine-tune", {"min_lr": 1e-4})):
        watch = watched(rewind=rewind, **settings)
        assert watch.rates[0] == watched(rounds=0, **settings).rates[0]
        assert watch.rates[1] == (constant if rewind == "fine-tune" else watch.rates[0])
        initial = mirl.PromptIR(seed=3, **SMALL).state_dict()
        name = "latent.0.ffn.project_in.weight"
        begun = watch.begun[1][name]
        kept = begun != 0
        assert 0.2 < kept.mean() < 0.9
        assert not np.array_equal(begun[kept], initial[name][kept])


def test_gradual_density_is_the_cubic_schedule():
    steps, final = 400, 0.1
    found = [gradual_density(step, steps, final) for step in range(steps)]
    wanted = [density for density in found if density is not None]
    assert len(wanted) == GRADUAL_PRUNINGS
    for index, density in enumerate(wanted, 1):
        share = 1 - index / GRADUAL_PRUNINGS
        assert density == pytest.approx(final + (1 - final) * share**3)
    places = [step for step, density in enumerate(found) if density is not None]
    assert (places[0], places[-1]) == (50, 300)
    # A round of few steps comes to the end all the same.
    short = [gradual_density(step, 6, final) for step in range(6)]
    assert [density for density in short if density is not None][-1] == pytest.approx(final)
    # Of the prunings that come to one step the last.
    assert short[1] == pytest.approx(final + (1 - final) * (1 - 7 / 20) ** 3)


@pytest.mark.parametrize("control", ["reinit", "shuffle", "random", None])
def test_controls_are_what_they_say(parent, tmp_path, control):
    settings = {"masks_of": parent, "control": control, "rewind": 2, "seed": 7}
    data = Noise() if control else Other()
    result = run(tmp_path / "whole", data=data, **settings)
    assert [record["round"] for record in result.rounds] == [1, 2]
    theirs = [json.loads(line) for line in (parent / "record.jsonl").read_text().splitlines()]
    for record, their in zip(result.rounds, theirs[1:], strict=True):
        assert record["alive"] == their["alive"]
        if control != "random":
            assert record["layers"] == their["layers"]
        else:
            assert record["layers"] != their["layers"]
    for round_ in (1, 2):
        own, their = masks(tmp_path / "whole", round_), masks(parent, round_)
        same = all(np.array_equal(own[name], their[name]) for name in their)
        assert same == (control in ("reinit", None))
    if control:
        resumed(tmp_path / "resumed", **settings)
        assert_same_run(tmp_path / "resumed", tmp_path / "whole")
    else:
        # The ticket under other data is another network.
        assert not np.array_equal(
            state(tmp_path / "whole", 2)["output.weight"], state(parent, 2)["output.weight"]
        )


class Other(Noise):
    """Other images."""

    def describe(self):
        return {"seed": 6}

    def epoch(self, epoch, start=0):
        yield from ((clean, clean) for _, clean in super().epoch(epoch + 100, start))


@pytest.mark.parametrize(
    ("pruned", "trained"),
    [
        ({}, {"rewind": 2}),
        ({"pruning": "one-shot"}, {}),
        ({"pruning": "one-shot"}, {"rewind": "learning-rate"}),
        ({"pruning": "initial", "criterion": "random"}, {}),
        ({}, {"include": ("weights", "prompts")}),
        ({}, {"exclude": ("norms", "dead")}),
        ({}, {"preset": "paper-code"}),
    ],
    ids=str,
)
def test_a_ticket_begins_where_its_parent_did(tmp_path, pruned, trained):
    """Without a control and on the same data, the second run is the first."""
    settings = {"epochs": 1, **trained}
    run(tmp_path / "parent", **pruned, **settings)
    run(tmp_path / "again", masks_of=tmp_path / "parent", **settings)
    for round_ in (1, 2):
        again = state(tmp_path / "again", round_)
        assert_same_state(again, state(tmp_path / "parent", round_))


def test_the_ticket_of_a_gradual_run_begins_with_the_initial_network(tmp_path):
    """Under the masks that the round ended with."""
    run(tmp_path, pruning="gradual", rounds=1, epochs=1)
    begun = watched(masks_of=tmp_path, rounds=1, epochs=1).begun[0]
    initial = mirl.load(tmp_path / "initial.safetensors")
    mask = masks(tmp_path, 1)
    for name, values in initial.state_dict().items():
        if not initial._network.is_unused(name):
            expected = np.where(mask.get(name, True), values, 0)
            np.testing.assert_array_equal(begun[name], expected, err_msg=name)


def test_what_a_run_begins_with_is_copied_whole_or_not_at_all(parent, tmp_path, monkeypatch):
    def fails(_, to):
        to.write_bytes(b"half")
        raise OSError(28, "no space")

    monkeypatch.setattr("mirl.lottery.folder.shutil.copyfile", fails)
    with pytest.raises(OSError, match="no space"):
        run(tmp_path, masks_of=parent, rewind=2)
    assert not list(tmp_path.glob("*initial*"))
    monkeypatch.undo()
    run(tmp_path, masks_of=parent, rewind=2)
    assert (tmp_path / "initial.safetensors").exists()


def test_controls_are_drawn_anew_for_each_seed_and_round():
    model = mirl.PromptIR(seed=3, **SMALL)
    names = [f"{place}.0.attn.project_out.weight" for place in ("decoder_level1", "refinement")]
    half = np.arange(16 * 16).reshape(model.shapes[names[0]]) % 16 < 8
    ticket = dict.fromkeys(names, half)
    for control in ("shuffle", "random"):
        first, again, *others = (
            controlled_masks(control, ticket, names, model, seed)
            for seed in ((0, 1), (0, 1), (1, 1), (0, 2))
        )
        assert sum(int(mask.sum()) for mask in first.values()) == half.size
        for name in names:
            np.testing.assert_array_equal(first[name], again[name])
            assert not any(np.array_equal(first[name], other[name]) for other in others)
        assert not np.array_equal(*first.values())  # each tensor in its own order
    values = [
        reinitialised(model, seed).state_dict()[names[0]].tobytes()
        for seed in ((0, 1), (0, 1), (1, 1), (0, 2))
    ]
    assert values[0] == values[1]
    assert len(set(values)) == 3


def test_survivors_of_reinit_start_anew(parent):
    model = mirl.PromptIR(seed=3, **SMALL)
    watch = Watch(model)
    settings = {"rounds": 2, "amount": 0.3, "lr": 1e-3, "masks_of": parent, "loggers": [watch]}
    mirl.find_ticket(model, Noise(), control="reinit", **settings)
    initial = mirl.load(parent / "initial.safetensors").state_dict()
    name = "latent.0.ffn.project_in.weight"
    first, second = (begun[name] for begun in watch.begun)
    for begun in (first, second):
        kept = begun != 0
        # Of 24 random bits, a few may be the same.
        assert (begun[kept] != initial[name][kept]).mean() > 0.999
        # Of the same distribution: uniform in ±1/√64.
        assert np.abs(begun).max() == pytest.approx(1 / 8, rel=0.01)
    assert (first[second != 0] != second[second != 0]).mean() > 0.999


@pytest.mark.parametrize(
    ("kept", "settings"), [("late", {"rewind": 2}), ("dense", {"pruning": "one-shot"})]
)
def test_what_a_run_has_kept_is_wanted_where_it_goes_on(tmp_path, kept, settings):
    """And of no other run."""
    with pytest.raises(StopError):  # round 0 is done, and step 2 of it
        run(tmp_path, data=Stopping(8), **settings)
    path = tmp_path / f"{kept}.safetensors"
    path.rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError, match=rf"{kept}\.safetensors"):
        run(tmp_path, data=Stopping(0), **settings)
    mirl.PromptIR(seed=4, **SMALL).save(path, {"initial": "00000000"})
    with pytest.raises(mirl.errors.FormatError, match=rf"{kept}.*began with other values"):
        run(tmp_path, data=Stopping(0), **settings)
    (tmp_path / "away").rename(path)
    run(tmp_path, **settings)
    run(tmp_path / "whole", **settings)
    assert_same_run(tmp_path, tmp_path / "whole")


@pytest.mark.parametrize("control", ["shuffle", "random"])
def test_what_a_control_brings_back_has_to_get_its_values_back(parent, tmp_path, control):
    """The parent's network holds 0 where it was pruned before."""
    with pytest.raises(
        ValueError, match=f"control '{control}' brings pruned weights back, and with"
    ):
        run(tmp_path, masks_of=parent, control=control, rewind="learning-rate")
    prompts = {"include": ("weights", "prompts"), "epochs": 1}
    run(tmp_path / "parent", **prompts)
    with pytest.raises(ValueError, match="prompts back, and with rewind_prompts False they would"):
        run(None, masks_of=tmp_path / "parent", control=control, **prompts)
    run(None, masks_of=tmp_path / "parent", control=control, rewind_prompts=True, **prompts)
    # One whose rounds begin with the dense network has their values.
    run(tmp_path / "once", pruning="one-shot", epochs=1)
    run(None, masks_of=tmp_path / "once", control=control, rewind="learning-rate", epochs=1)


@pytest.mark.parametrize("pruning", ["one-shot", "gradual"])
def test_the_masks_of_a_parent_are_not_pruned(parent, tmp_path, pruning):
    settings = {"pruning": pruning, "amount": 0.9, "scope": "layerwise", "rounds": 1}
    run(tmp_path, masks_of=parent, rewind="initial", **settings)
    assert_same_state(masks(tmp_path, 1), masks(parent, 1))


@pytest.mark.parametrize("pruning", ["one-shot", "initial", "gradual"])
def test_what_begins_with_the_whole_network_refuses_masks(pruning):
    model = mirl.PromptIR(seed=3, **SMALL)
    mirl.prune(model, 0.5)
    before = model.state_dict()
    with pytest.raises(ValueError, match=f"pruning '{pruning}' begins with the whole network, and"):
        mirl.find_ticket(model, Noise(), rounds=1, pruning=pruning)
    assert_same_state(model.state_dict(), before)


def test_late_values_of_a_parent_that_are_missing_are_named(parent, tmp_path):
    copied = tmp_path / "parent"
    shutil.copytree(parent, copied, ignore=shutil.ignore_patterns("late.safetensors"))
    with pytest.raises(FileNotFoundError, match=r"late\.safetensors"):
        run(tmp_path / "run", masks_of=copied, rewind=2)
    # Those of reinit are drawn.
    run(tmp_path / "drawn", masks_of=copied, rewind=2, control="reinit", rounds=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pruning": "twice"}, "pruning must be one of"),
        ({"criterion": "size"}, "criterion must be one of"),
        ({"criterion": "movement", "pruning": "one-shot"}, "movement"),
        ({"rewind": "late"}, "rewind must be"),
        ({"rewind": 0}, "rewind must be at least 1"),
        ({"rewind": 6}, "rewind must be less than the 6 steps"),
        ({"rewind": "fine-tune"}, "min_lr"),
        ({"rewind": 2, "pruning": "initial"}, "nothing to rewind to"),
        ({"rewind": "learning-rate", "rewind_prompts": True}, "rewind_prompts is of rewinding"),
        ({"control": "reinit"}, "masks_of"),
        ({"precision": "float16"}, "precision must be one of"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_contradicts_is_named(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "x", **settings)
    assert not (tmp_path / "x" / "checkpoint.safetensors").exists()


def test_what_does_not_fit_a_parent_is_named(parent, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"recipe\.json"):
        run(None, masks_of=tmp_path)
    with pytest.raises(ValueError, match="rounds must be at least 1"):
        run(None, masks_of=parent, rounds=0)
    for setting, message in (
        ({"rewind": 3}, "its rewind is 2, not 3"),
        ({"include": ["weights", "prompts"]}, r"its include is \['weights'\], not \['weights', 'p"),
        ({"exclude": ()}, r"its exclude is None, not \[\]"),
        ({"preset": "paper-code"}, "its preset is 'default', not 'paper-code'"),
    ):
        with pytest.raises(ValueError, match=message):
            run(None, masks_of=parent, **setting)
    run(tmp_path / "child", masks_of=parent, rounds=1, epochs=1)
    with pytest.raises(ValueError, match="took its masks from another run, which masks_of must"):
        run(None, masks_of=tmp_path / "child", rounds=1)
    folder = tmp_path / "more"
    with pytest.raises(ValueError, match="has masks of 2 rounds so far, fewer than the 3"):
        run(folder, masks_of=parent, rounds=3)
    assert not list(folder.iterdir())  # which would be that run's
    with pytest.raises(ValueError, match="control must be one of"):
        run(None, masks_of=parent, control="nothing")
    with pytest.raises(ValueError, match="control 'reinit' draws what weights are rewound to"):
        run(None, masks_of=parent, control="reinit", rewind="learning-rate")
    wide = mirl.PromptIR(seed=3, **(SMALL | {"dim": 16}))
    with pytest.raises(ValueError, match="its network is another: dim is 8 there and 16 here"):
        mirl.find_ticket(wide, Noise(), rounds=2, masks_of=parent, out=folder)
    assert not list(folder.iterdir())
