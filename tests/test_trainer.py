import contextlib
import dataclasses
import functools
import math
import signal
import time

import numpy as np
import pytest
import soundfile as sf
import torch
from messages import one_line
from tiny_runs import (
    adversarial_changes,
    history,
    make_trainer,
    resume,
    start,
    tiny_recipe,
    write_clips,
)

import codec.train.learner as learner_module
import codec.train.trainer as trainer_module
import codec.train.validation as validation_module
from codec.config import to_dict
from codec.errors import AudioError, ModelError
from codec.experiment import build_trainer
from codec.inference.pretrained import load_codec, save_codec
from codec.train.checkpoint import read_index
from codec.train.data.batches import batches
from codec.train.engine import build_fabric

UPDATES = ["ema", "gradient"]
RESUMED = [*UPDATES, "adversarial"]


@pytest.fixture(autouse=True)
def only_mel(monkeypatch):
    """STOI and PESQ are tested elsewhere and would take most of the time."""
    monkeypatch.setattr(validation_module, "available_metrics", lambda: ("mel",))


def before_step(monkeypatch, trainer, action):
    """Call `action(trainer, batch)` before every step; a batch that it returns replaces the batch."""
    step = trainer._step
    monkeypatch.setattr(trainer, "_step", lambda batch, progress: step(action(trainer, batch) or batch, progress))


def stop_before(monkeypatch, trainer, step):
    def action(trainer, batch):
        if trainer.progress.step == step:
            raise KeyboardInterrupt

    before_step(monkeypatch, trainer, action)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()


def poison(monkeypatch, trainer, steps):
    before_step(
        monkeypatch,
        trainer,
        lambda trainer, batch: batch._replace(audio=batch.audio * math.nan) if trainer.progress.step in steps else None,
    )


def record_updates(monkeypatch, trainer):
    """List of (step, revived), filled by every update of the codebooks."""
    codebooks, updates = trainer.learner.codec.quantizer.codebooks, []
    revive = codebooks.revive

    def recorded(statistics, seen, generator):
        revived = revive(statistics, seen, generator)
        updates.append((trainer.progress.step, revived))
        return revived

    monkeypatch.setattr(codebooks, "revive", recorded)
    return updates


def everything(trainer):
    """State that the next step depends on, by name."""
    learner = trainer.learner
    optimizers, models = {"optimizer": learner.optimizer}, {"codec": learner.codec, "ema": learner.ema}
    if learner.adversary is not None:
        optimizers["discriminators_optimizer"] = learner.adversary.optimizer
        models["discriminators"] = learner.adversary.discriminators
    moments = {
        f"{name}.{number}.{key}": value
        for name, optimizer in optimizers.items()
        for number, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }
    tensors = {f"{name}.{key}": value for name, model in models.items() for key, value in model.state_dict().items()}
    counters = {name: getattr(trainer.learner, name) for name in ("skipped_steps", "bad_steps_in_a_row")}
    known = {name: getattr(trainer.progress, name) for name in ("step", "initialized", "best_score")}
    return tensors | moments | counters | {name: torch.tensor(value) for name, value in known.items()}


def copy_of(trainer):
    return {name: tensor.clone() for name, tensor in everything(trainer).items()}


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


# ---- One step


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("bypass_steps", [0, 1])
def test_every_parameter_changes_in_a_step(clips, tmp_path, update, bypass_steps):
    changes = {"train__steps": 1, "train__bypass_steps": bypass_steps, "codec__quantizer__update": update}
    trainer = start(tiny_recipe(clips, optimizer__weight_decay=0, **changes), tmp_path)
    before = copy_of(trainer)
    trainer.fit()
    for name, parameter in trainer.learner.codec.named_parameters():
        unchanged = torch.equal(parameter, before[f"codec.{name}"])
        assert unchanged == (bypass_steps == 1 and "codebooks" in name), name
        if "codebooks" not in name:  # decay 0.1, the first of the warm-up of the average
            average = 0.1 * before[f"ema.{name}"] + 0.9 * parameter
            assert torch.allclose(trainer.learner.ema.state_dict()[name], average, atol=1e-7), name


def test_total_is_the_weighted_sum_of_the_terms(clips, tmp_path):
    weights = {"waveform": 2.0, "loudness": 0.0, "mel": 3.0, "commitment": 0.5, "codebook": 0.25}
    recipe = tiny_recipe(
        clips,
        codec__quantizer__update="gradient",
        train__bypass_steps=0,
        train__steps=2,
        **{f"loss__{name}": weight for name, weight in weights.items()},
    )
    start(recipe, tmp_path).fit()
    lines = history(tmp_path)
    assert len(lines) == 2
    for line in lines:
        assert "loss/loudness" not in line  # its weight is zero: it is not computed
        expected = sum(weight * line[f"loss/{name}"] for name, weight in weights.items() if weight)
        assert line["loss/total"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("only", ["waveform", "loudness", "mel", "commitment", "codebook"])
def test_each_term_alone_moves_the_parts_before_it(clips, tmp_path, only):
    weights = {
        f"loss__{name}": float(name == only) for name in ("waveform", "loudness", "mel", "commitment", "codebook")
    }
    recipe = tiny_recipe(
        clips,
        codec__quantizer__update="gradient",
        codec__quantizer__dead_threshold=0,
        optimizer__weight_decay=0,
        train__bypass_steps=0,
        train__steps=1,
        **weights,
    )
    trainer = start(recipe, tmp_path)
    parameters = dict(trainer.learner.codec.named_parameters())
    initialize = trainer._initialize_codebooks
    table = []
    trainer._initialize_codebooks = lambda progress: (
        initialize(progress),
        table.append(trainer_table(trainer).clone()),
    )
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    trainer.fit()
    moved = {name.split(".")[0] for name, parameter in parameters.items() if not torch.equal(parameter, before[name])}
    table_moved = not torch.equal(trainer_table(trainer), table[0])
    assert table_moved == (only == "codebook")
    assert ("decoder" in moved) == (only in ("waveform", "loudness", "mel"))
    assert ("encoder" in moved) == (only != "codebook")


def trainer_table(trainer):
    return trainer.learner.codec.quantizer.codebooks.table.detach()


def test_frames_behind_the_end_of_an_item_enter_no_statistics(clips, tmp_path, monkeypatch):
    trainer = start(tiny_recipe(clips, codec__quantizer__quantizer_dropout=0, train__bypass_steps=1), tmp_path)
    quantizer, seen = trainer.learner.codec.quantizer, {}
    initialize, follow = quantizer.initialize, quantizer.codebooks.follow
    monkeypatch.setattr(
        quantizer,
        "initialize",
        lambda *args, mask, **rest: initialize(*args, mask=seen.setdefault("mask", mask), **rest),
    )
    monkeypatch.setattr(
        quantizer.codebooks,
        "follow",
        lambda statistics: follow(seen.setdefault("update", statistics)),
    )
    trainer.fit()

    def num_frames(lengths):
        return sum(trainer.learner.codec.num_frames(int(length)) for length in lengths)

    options = {"first_step": 0, "last_step": 2, "batch_size": 4}
    first, second = batches(trainer.source.segments.reseeded(0, 1), **options)
    lengths = torch.cat([first.lengths, second.lengths])
    assert lengths.min() < 1600 and int(seen["mask"].sum()) == num_frames(lengths)
    _, second = batches(trainer.source.segments, **options)
    assert seen["update"].counts.sum(dim=-1).tolist() == [num_frames(second.lengths)] * 3


def test_decoded_audio_behind_the_end_of_an_item_enters_no_loss(clips, tmp_path):
    trainer = make_trainer(tiny_recipe(clips), tmp_path)
    batch = next(
        batch
        for batch in batches(trainer.source.segments, first_step=0, last_step=9, batch_size=2)
        if batch.lengths.min() < 1600
    )
    item, end = int(batch.lengths.argmin()), int(batch.lengths.min())
    output = trainer.learner.codec(batch.audio, quantize=False)

    def terms():
        return [term.value.item() for term in trainer.learner.objective(output, batch).values()]

    before = terms()
    with torch.no_grad():
        output.audio[item, :, end:] += 1.0
    assert terms() == before
    with torch.no_grad():
        output.audio[item, :, end - 1] += 1.0
    assert terms() != before


@pytest.mark.parametrize("update", UPDATES)
def test_codebooks_change_once_a_step_and_only_there(clips, tmp_path, monkeypatch, update):
    recipe = tiny_recipe(clips, codec__quantizer__update=update, data__valid=".", train__validate_every=2)
    trainer = start(recipe, tmp_path)
    updates = record_updates(monkeypatch, trainer)
    validate, states = trainer._validate, []

    def watched(*arguments):
        trainer.learner.current_ema()
        before = copy_of(trainer)
        validate(*arguments)
        states.append((before, copy_of(trainer)))

    monkeypatch.setattr(trainer, "_validate", watched)
    trainer.fit()
    assert [step for step, _ in updates] == [2, 3, 4, 5]
    assert len(states) == 3
    for before, after in states:
        assert_equal(before, after | {"best_score": before["best_score"]})


def test_a_bad_step_does_not_hide_that_the_codebooks_were_initialized(clips, tmp_path, monkeypatch):
    """The average of codebooks that are parameters starts at k-means too, not at the random table."""
    recipe = tiny_recipe(clips, codec__quantizer__update="gradient", train__steps=3)
    trainer = start(recipe, tmp_path)
    poison(monkeypatch, trainer, {2})
    trainer.fit()
    assert torch.equal(trainer_table(trainer), trainer.learner.ema.quantizer.codebooks.table)
    assert trainer.progress.initialized


def test_reviving_resets_the_average_and_the_moments_of_codewords(clips, tmp_path, monkeypatch):
    recipe = tiny_recipe(
        clips,
        codec__quantizer__update="gradient",
        codec__quantizer__dead_threshold=0.9,
        train__bypass_steps=1,
        train__steps=3,
    )
    trainer = start(recipe, tmp_path)
    updates = record_updates(monkeypatch, trainer)
    trainer.fit()
    revived = updates[-1][1]
    assert revived.any() and not revived.all()
    table, ema = (
        trainer.learner.codec.quantizer.codebooks.table,
        trainer.learner.ema.quantizer.codebooks.table,
    )
    assert torch.equal(table[revived], ema[revived])
    assert not torch.equal(table[~revived], ema[~revived])
    state = trainer.learner.optimizer.state[table]
    assert not state["exp_avg"][revived].any() and not state["exp_avg_sq"][revived].any()
    assert state["exp_avg_sq"][~revived].any()


def test_a_codec_overfits_one_clip(tmp_path):
    recipe = tiny_recipe(
        write_clips(tmp_path / "clips", seconds=[0.1]),
        codec__quantizer__quantizer_dropout=0,
        codec__quantizer__dead_threshold=0.02,
        data__gain_db=[0, 0],
        train__batch_size=1,
        train__bypass_steps=1,
        train__steps=120,
    )
    start(recipe, tmp_path / "run").fit()
    _, first, *_ = lines = history(tmp_path / "run")  # the first through the quantizer
    mel, waveform = (np.mean([line[f"loss/{name}"] for line in lines[-10:]]) for name in ("mel", "waveform"))
    assert mel < 0.6 * first["loss/mel"]
    assert waveform < first["loss/waveform"] - 0.1  # 1 dB; the start, a transform codec, has 21 already


# ---- Resuming


@pytest.fixture(scope="module")
def uninterrupted(clips, tmp_path_factory):
    """Final state and history of a whole run, by the way its codebooks learn."""
    results = {}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(validation_module, "available_metrics", lambda: ("mel",))
        for update in RESUMED:
            run_dir = tmp_path_factory.mktemp("whole")
            trainer = start(resumable(clips, update), run_dir)
            updates = record_updates(monkeypatch, trainer)
            trainer.fit()
            assert any(revived.any() for _, revived in updates)
            results[update] = copy_of(trainer), history(run_dir)
    return results


def resumable(clips, update, num_workers=0):
    adversarial = update == "adversarial"
    return tiny_recipe(
        clips,
        **(adversarial_changes(start_step=1) if adversarial else {}),
        codec__quantizer__update="ema" if adversarial else update,
        codec__quantizer__dead_threshold=0.6,
        data__valid=".",
        data__num_workers=num_workers,
        train__steps=5,
        train__validate_every=3,
    )


# The codebooks are initialised in step 2, the third; the first validation follows it.
@pytest.mark.parametrize("stop", [1, 2, 3, 4])
@pytest.mark.parametrize("update", RESUMED)
def test_a_resumed_run_is_the_uninterrupted_one(clips, tmp_path, monkeypatch, uninterrupted, update, stop):
    recipe = resumable(clips, update)
    stop_before(monkeypatch, start(recipe, tmp_path), stop)
    trainer = resume(recipe, tmp_path)
    assert trainer.progress.step == stop
    trainer.fit()
    state, lines = uninterrupted[update]
    assert_equal(everything(trainer), state)
    assert history(tmp_path) == lines


def test_a_resumed_run_with_workers_is_the_uninterrupted_one(clips, tmp_path, monkeypatch, uninterrupted):
    recipe = resumable(clips, "ema", num_workers=1)
    stop_before(monkeypatch, start(recipe, tmp_path), 2)
    trainer = resume(recipe, tmp_path)
    trainer.fit()
    state, lines = uninterrupted["ema"]
    assert_equal(everything(trainer), state)
    assert history(tmp_path) == lines


@pytest.mark.parametrize("update", UPDATES)
def test_ctrl_c_within_a_step_waits_for_its_end(clips, tmp_path, monkeypatch, uninterrupted, update):
    recipe = resumable(clips, update)
    trainer = start(recipe, tmp_path)
    average = learner_module.update_ema

    def interrupted(*args, **options):
        if trainer.progress.step == 3:
            signal.raise_signal(signal.SIGINT)
        average(*args, **options)

    monkeypatch.setattr(learner_module, "update_ema", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    monkeypatch.undo()
    monkeypatch.setattr(validation_module, "available_metrics", lambda: ("mel",))
    trainer = resume(recipe, tmp_path)
    assert trainer.progress.step == 4
    trainer.fit()
    assert_equal(everything(trainer), uninterrupted[update][0])


def test_an_interrupted_run_loads_as_a_model(clips, tmp_path, monkeypatch):
    trainer = start(tiny_recipe(clips), tmp_path)
    stop_before(monkeypatch, trainer, 4)
    assert read_index(tmp_path) == {"last": "step-00000004"}
    codec = load_codec(tmp_path)
    for name, parameter in codec.named_parameters():
        assert torch.equal(parameter, trainer.learner.ema.state_dict()[name]), name


@pytest.mark.parametrize(("part", "saved"), [("objective", 4), ("codec.quantizer.codebooks.follow", 3)])
def test_an_error_within_a_step_saves_whole_steps_only(clips, tmp_path, monkeypatch, uninterrupted, part, saved):
    """Step 4 is still whole when the loss fails. When the codebooks fail, the weights are those of step 5 already."""
    recipe = resumable(clips, "ema")  # it saves step 3
    trainer = start(recipe, tmp_path)
    *path, name = part.split(".")
    owner = functools.reduce(getattr, path, trainer.learner)
    works = getattr(owner, name)

    def fails(*arguments):
        if trainer.progress.step == 4:
            raise RuntimeError("out of memory")
        return works(*arguments)

    monkeypatch.setattr(owner, name, fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer.fit()
    resumed = resume(recipe, tmp_path)
    assert resumed.progress.step == saved
    resumed.fit()
    state, lines = uninterrupted["ema"]
    assert_equal(everything(resumed), state)
    assert history(tmp_path) == lines


def test_resuming_a_finished_run_changes_nothing(clips, tmp_path, monkeypatch):
    recipe = tiny_recipe(clips, train__steps=3)
    first = start(recipe, tmp_path)
    first.fit()
    second = resume(recipe, tmp_path)
    monkeypatch.setattr(trainer_module, "save_checkpoint", None)  # no step is new
    second.fit()
    assert_equal(everything(first), everything(second))


def test_the_speed_of_a_resumed_run_counts_its_own_steps(clips, tmp_path, monkeypatch):
    recipe = tiny_recipe(clips, train__steps=6)
    stop_before(monkeypatch, start(recipe, tmp_path), 4)
    trainer, speeds = resume(recipe, tmp_path), []
    assert trainer.stopwatch.seconds == trainer.progress.seconds > 0  # the clock goes on from where it stood

    class Clock:
        """Every step takes two seconds."""

        seconds = property(lambda _: 2.0 * trainer.progress.step)
        start = paused = staticmethod(contextlib.nullcontext)

    trainer.stopwatch = Clock()
    report = trainer.reporter.report
    monkeypatch.setattr(
        trainer.reporter,
        "report",
        lambda *args, steps_per_second, **rest: (
            speeds.append(steps_per_second),
            report(*args, steps_per_second=steps_per_second, **rest),
        ),
    )
    trainer.fit()
    assert speeds == [0.5, 0.5]


def test_best_checkpoint_is_kept_beside_the_last(clips, tmp_path, monkeypatch):
    recipe = tiny_recipe(clips, data__valid=".", train__steps=5, train__bypass_steps=0, train__validate_every=1)
    trainer = start(recipe, tmp_path)
    scores = iter([3.0, 1.0, 2.0, 1.0, None])  # equal is not better, and None is no score
    monkeypatch.setattr(trainer.judge, "validate", lambda *_: next(scores))
    trainer.fit()
    names = {"last": "step-00000005", "previous": "step-00000004", "best": "step-00000002"}
    assert read_index(tmp_path) == names
    assert sorted(path.name for path in (tmp_path / "checkpoints").glob("step-*")) == sorted(names.values())
    assert trainer.progress.best_score == resume(recipe, tmp_path).progress.best_score == 1.0


def test_what_a_killed_process_left_of_a_checkpoint_is_removed_by_the_next(clips, tmp_path):
    partial = tmp_path / "checkpoints" / ".step-00000001.partial"
    partial.mkdir(parents=True)
    (partial / "model.safetensors").write_bytes(b"half")
    start(tiny_recipe(clips, train__steps=2), tmp_path).fit()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["index.json", "step-00000002"]


def test_start_from_takes_weights_and_codebooks_and_skips_the_bypass(clips, tmp_path, monkeypatch):
    source = start(tiny_recipe(clips, seed=1, train__steps=4), tmp_path / "source")
    source.fit()
    save_codec(source.learner.codec, tmp_path / "model")
    trainer = start(tiny_recipe(clips, train__bypass_steps=100, train__steps=1), tmp_path / "run")
    updates = record_updates(monkeypatch, trainer)
    trainer.start_from(str(tmp_path / "model"))
    for name, tensor in source.learner.codec.state_dict().items():
        for codec in (trainer.learner.codec, trainer.learner.ema):
            expected = {"counts": torch.ones_like(tensor), "sums": trainer_table(source)}.get(
                name.split(".")[-1], tensor
            )
            assert torch.equal(codec.state_dict()[name], expected), name
    trainer.fit()
    assert [step for step, _ in updates] == [0]
    assert trainer.progress.step == 1


def test_start_from_fewer_levels_keeps_them_and_sets_the_others(clips, tmp_path, monkeypatch):
    source = start(tiny_recipe(clips, seed=1, train__steps=4, codec__quantizer__num_quantizers=2), tmp_path / "source")
    source.fit()
    recipe = tiny_recipe(clips, train__bypass_steps=100, train__steps=1, optimizer__lr=1e-9)
    trainer = start(recipe, tmp_path / "run")
    trainer.start_from(str(tmp_path / "source"))
    random = trainer_table(trainer)[2].clone()
    seen = []
    follow = trainer.learner.codec.quantizer.codebooks.follow
    monkeypatch.setattr(
        trainer.learner.codec.quantizer.codebooks,
        "follow",
        lambda statistics: (seen.append(trainer_table(trainer).clone()), follow(statistics))[1],
    )
    trainer.fit()
    assert torch.equal(seen[0][:2], trainer_table(source))  # at the first step, before the codebooks learn from it
    assert not torch.allclose(seen[0][2], random)
    assert trainer.progress.initialized
    # The third level was set from what the first two leave over: it makes the error smaller.
    assert seen[0][2].square().mean() < seen[0][0].square().mean()


def test_start_from_refuses_another_architecture(clips, tmp_path):
    other = start(tiny_recipe(clips, codec__latent_dim=10), tmp_path / "other")
    save_codec(other.learner.codec, tmp_path / "model")
    with pytest.raises(
        ModelError, match=one_line("architecture", "decoder.project_in.weight", "[16, 10, 1]", "[16, 12, 1]")
    ):
        start(tiny_recipe(clips), tmp_path / "run").start_from(str(tmp_path / "model"))


# ---- Stopping


def test_a_run_out_of_time_is_validated_and_saved(clips, tmp_path):
    start(tiny_recipe(clips, train__max_minutes=1e-9), tmp_path / "a").fit()
    assert read_index(tmp_path / "a") == {"last": "step-00000001"}
    recipe = tiny_recipe(clips, train__max_minutes=1e-9, train__bypass_steps=0, data__valid=".")
    start(recipe, tmp_path / "b").fit()
    assert read_index(tmp_path / "b") == {"last": "step-00000001", "best": "step-00000001"}  # it was validated
    assert any("valid/mel_9.6kbps" in line for line in history(tmp_path / "b"))


def test_checkpoints_come_as_often_as_asked(clips, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(trainer_module, "save_checkpoint", lambda *_, step, **__: saved.append(step))
    start(tiny_recipe(clips, train__steps=7, train__checkpoint_every=2, train__validate_every=3), tmp_path).fit()
    assert saved == [2, 3, 4, 6, 7]


def test_checkpoints_come_by_the_clock(clips, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(trainer_module, "save_checkpoint", lambda *_, step, **__: saved.append(step))
    start(tiny_recipe(clips, train__steps=3, train__checkpoint_minutes=1e-9), tmp_path / "a").fit()
    assert saved == [1, 2, 3]
    saved.clear()
    start(tiny_recipe(clips, train__steps=3, train__checkpoint_minutes=60), tmp_path / "b").fit()
    assert saved == [3]


def test_minutes_count_from_the_start_of_the_process(clips, tmp_path):
    recipe = tiny_recipe(clips, train__max_minutes=1)
    fabric = build_fabric("32-true", "cpu")
    for seconds, steps in ((61, 1), (0, 6)):
        trainer = build_trainer(recipe, tmp_path / str(seconds), fabric, began=time.monotonic() - seconds)
        trainer.fit()
        assert trainer.progress.step == steps


def test_a_run_stopped_by_the_clock_resumes_bit_for_bit(clips, tmp_path, uninterrupted):
    recipe = resumable(clips, "adversarial")
    first = start(dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, max_minutes=1e-9)), tmp_path)
    first.fit()
    assert first.progress.step == 1
    trainer = resume(recipe, tmp_path)
    trainer.fit()
    state, lines = uninterrupted["adversarial"]
    known = {"best_score"}  # the first run validated where the whole one did not
    assert_equal(*({k: v for k, v in each.items() if k not in known} for each in (everything(trainer), state)))
    assert [line for line in history(tmp_path) if "loss/total" in line] == [x for x in lines if "loss/total" in x]


def test_dead_codewords_are_looked_for_as_often_as_asked(clips, tmp_path, monkeypatch):
    trainer = start(tiny_recipe(clips, train__bypass_steps=0, train__revive_every=3), tmp_path)
    updates = record_updates(monkeypatch, trainer)
    trainer.fit()
    assert [step for step, _ in updates] == [2, 5]


def test_trackers_are_closed_when_saving_fails(clips, tmp_path, monkeypatch):
    def full_disk(*_, **__):
        raise ModelError("disk is full")

    monkeypatch.setattr(trainer_module, "save_checkpoint", full_disk)
    opened, build_trackers = [], trainer_module.build_trackers
    monkeypatch.setattr(trainer_module, "build_trackers", lambda *args: opened.extend(build_trackers(*args)) or opened)
    with pytest.raises(ModelError, match="disk is full"):
        start(tiny_recipe(clips, train__steps=1), tmp_path).fit()
    assert opened[0].file.closed


# ---- Steps that are not finite


@pytest.mark.parametrize("update", UPDATES)
def test_a_bad_step_is_skipped_and_counted(clips, tmp_path, monkeypatch, update):
    trainer = start(tiny_recipe(clips, codec__quantizer__update=update), tmp_path)
    states = []
    poison(monkeypatch, trainer, {4})
    before_step(monkeypatch, trainer, lambda trainer, _: states.append(copy_of(trainer)))
    trainer.fit()
    counted = {"step", "skipped_steps", "bad_steps_in_a_row"}
    before, after = states[4], states[5]
    assert_equal(*({name: value for name, value in state.items() if name not in counted} for state in (before, after)))
    assert (after["skipped_steps"], after["bad_steps_in_a_row"], after["step"]) == (1, 1, 5)
    assert (trainer.progress.skipped_steps, trainer.progress.bad_steps_in_a_row) == (1, 0)
    assert not torch.equal(
        states[5]["codec.decoder.project_out.weight"], everything(trainer)["codec.decoder.project_out.weight"]
    )
    line = next(line for line in history(tmp_path) if line["step"] == 5)
    assert line["loss/total"] is None and line["train/grad_norm"] is None and line["train/skipped_steps"] == 1


def test_an_infinite_gradient_is_a_bad_step(clips, tmp_path):
    trainer = start(tiny_recipe(clips, train__steps=1), tmp_path)
    trainer.learner.codec.decoder.project_out.weight.register_hook(lambda gradient: gradient * math.inf)
    before = trainer.learner.codec.encoder.project_in.weight.detach().clone()
    trainer.fit()
    assert trainer.progress.skipped_steps == 1
    assert torch.equal(trainer.learner.codec.encoder.project_in.weight, before)


def test_many_bad_steps_in_a_row_stop_the_run_and_keep_the_good_state(clips, tmp_path, monkeypatch):
    recipe = tiny_recipe(clips, train__max_bad_steps=3, train__steps=9)
    trainer = start(recipe, tmp_path)
    states = []
    poison(monkeypatch, trainer, {3, 5, 6, 7})  # one good step between
    before_step(monkeypatch, trainer, lambda trainer, _: states.append(copy_of(trainer)))
    with pytest.raises(ModelError, match=one_line("not finite", 3, "steps", 8, "optimizer.lr")):
        trainer.fit()
    resumed = resume(recipe, tmp_path)
    assert (resumed.progress.step, resumed.progress.skipped_steps) == (8, 4)
    assert (int(resumed.learner.skipped_steps), int(resumed.learner.bad_steps_in_a_row)) == (4, 3)
    for name, tensor in resumed.learner.codec.state_dict().items():
        assert torch.equal(tensor, states[5][f"codec.{name}"]), name
        assert tensor.isfinite().all()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_damaged_file_stops_the_run_with_its_name(tmp_path, num_workers):
    clips = write_clips(tmp_path / "clips", seconds=[])
    sf.write(clips / "nan.wav", np.full(3000, np.nan), 16_000, "FLOAT")
    trainer = start(tiny_recipe(clips, data__num_workers=num_workers), tmp_path / "run")
    with pytest.raises(AudioError, match=one_line(clips / "nan.wav", "NaN")):
        trainer.fit()


@pytest.mark.filterwarnings("ignore:skipped in training", "ignore:.*left out of the validation")
def test_a_file_that_goes_bad_in_a_run_is_skipped_and_counted(tmp_path):
    clips = write_clips(tmp_path / "clips", seconds=[0.09, 0.3, 0.3])
    trainer = start(tiny_recipe(clips, data__valid=".", train__validate_every=3), tmp_path / "run")
    (clips / "clip_0.wav").write_bytes(b"")
    trainer.fit()
    lines = history(tmp_path / "run")
    counts = [line["train/skipped_draws"] for line in lines if "train/skipped_draws" in line]
    assert counts and counts == sorted(counts) and counts[-1] == trainer.source.num_skipped > 0
    assert trainer.progress.step == 6 and math.isfinite(trainer.progress.best_score)
    start(tiny_recipe(write_clips(tmp_path / "good")), tmp_path / "another").fit()
    assert not any("train/skipped_draws" in line for line in history(tmp_path / "another"))


# ---- Precision and seed


@pytest.mark.parametrize(("fast", "precision"), [(False, "32-true"), (True, "bf16-mixed")])
def test_auto_precision_follows_the_processor(monkeypatch, fast, precision):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert build_fabric("auto", "cpu")._precision.precision == precision


def test_two_runs_of_a_recipe_are_equal_and_another_seed_differs(clips, tmp_path):
    recipe = tiny_recipe(clips, train__steps=3)
    runs = [start(recipe, tmp_path / name) for name in ("a", "b")]
    other = start(tiny_recipe(clips, train__steps=3, seed=1), tmp_path / "c")
    for trainer in (*runs, other):
        trainer.fit()
    assert_equal(everything(runs[0]), everything(runs[1]))
    assert to_dict(recipe)["seed"] == 0
    assert not torch.equal(
        everything(runs[0])["codec.decoder.project_out.weight"], everything(other)["codec.decoder.project_out.weight"]
    )
