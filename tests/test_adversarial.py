import pytest
import torch
from messages import one_line
from tiny_runs import adversarial_changes, history, start, tiny_recipe

from codec.config import from_dict
from codec.errors import ConfigError
from codec.experiment import build_adversary
from codec.recipe import Recipe
from codec.train.engine import build_fabric
from codec.train.losses.adversarial import (
    adversarial_loss,
    at_unit_rms,
    discriminator_loss,
    feature_matching_loss,
)
from codec.train.losses.discriminators import DiscriminatorOutput
from codec.train.optimizer import learning_rate


def adversarial_recipe(root, **changes):
    return tiny_recipe(root, **adversarial_changes(), **changes)


def output(scores, *features):
    return DiscriminatorOutput(torch.tensor(scores), [torch.tensor(each) for each in features])


def test_least_squares_by_hand():
    assert float(adversarial_loss([output([[1.0, 0.0]]), output([[3.0]])])) == pytest.approx((0.5 + 4) / 2)
    scores = [torch.tensor([[0.5], [1.0]]), torch.tensor([[0.0], [-1.0]])]  # decoded, original
    assert float(discriminator_loss(scores)) == pytest.approx((0.25 + 0 + 0 + 4) / 2)


def test_feature_matching_by_hand():
    decoded = [output([[0.0]], [[1.0, 3.0]], [[10.0, 0.0]])]
    original = [output([[0.0]], [[2.0, -2.0]], [[10.0, 10.0]])]
    assert float(feature_matching_loss(decoded, original)) == pytest.approx((6 / 4 + 10 / 20) / 2, rel=1e-5)


def test_the_gain_of_an_item_does_not_matter():
    target = torch.randn(1, 1, 1000)
    loud = at_unit_rms(target * 0.9, target)
    quiet = at_unit_rms(target * 0.009, target * 0.01)
    assert float(loud[1].square().mean()) == pytest.approx(1, rel=1e-4)
    for one, other in zip(loud, quiet, strict=True):
        assert torch.allclose(one, other, rtol=1e-2, atol=1e-2)
    silent = at_unit_rms(torch.zeros(1, 1, 10), torch.zeros(1, 1, 10))
    assert all(each.isfinite().all() for each in silent)
    beside_silence, _ = at_unit_rms(torch.full((1, 1, 10), 1e-3), torch.zeros(1, 1, 10))
    assert torch.allclose(beside_silence, torch.ones(1, 1, 10))  # the rms of silence counts as -60 dBFS


def test_without_adversarial_terms_there_are_no_discriminators(clips):
    fabric = build_fabric("32-true", "cpu")
    assert build_adversary(tiny_recipe(clips), fabric) is None
    for term in ("adversarial", "feature_matching"):
        assert (
            build_adversary(
                tiny_recipe(clips, **{f"loss__{term}": 1.0}, discriminators=adversarial_changes()["discriminators"]),
                fabric,
            )
            is not None
        )


def test_the_terms_have_a_gradient_for_audio_but_not_for_discriminators(clips):
    adversary = build_adversary(adversarial_recipe(clips), build_fabric("32-true", "cpu"))
    target = torch.randn(2, 1, 1600)
    audio = (target + 0.3 * torch.randn(2, 1, 1600)).requires_grad_()
    for term in adversary.terms(audio, target).values():
        (gradient,) = torch.autograd.grad(term.value, audio, retain_graph=True)
        assert gradient.abs().sum() > 0 and gradient.isfinite().all()
    assert all(weight.grad is None and weight.requires_grad for weight in adversary.weights)
    assert float(adversary.terms(target, target)["feature_matching"].value) == 0


def test_discriminators_learn_to_tell_noisy_audio_from_originals(clips):
    torch.manual_seed(0)
    adversary = build_adversary(adversarial_recipe(clips, discriminators__lr=2e-3), build_fabric("32-true", "cpu"))
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(1600) / 16_000
    losses = []
    for _ in range(60):
        tones = torch.sin(2 * torch.pi * time * (100 + 300 * torch.rand(4, 1, 1, generator=generator)))
        noise = tones + torch.randn(4, 1, 1600, generator=generator)
        losses.append(float(adversary.backward(noise, tones)))
        adversary.clip()
        adversary.apply(torch.tensor(1.0), torch.tensor(False))
        for weight in adversary.weights:
            weight.grad = None
    assert losses[0] > 0.8 and sum(losses[-5:]) / 5 < 0.2


# ---- Within the trainer


def parameters(trainer):
    modules = {"codec": trainer.learner.codec, "discriminators": trainer.learner.adversary.discriminators}
    return {f"{role}.{name}": weight for role, module in modules.items() for name, weight in module.named_parameters()}


def copy_of(trainer):
    return {name: weight.detach().clone() for name, weight in parameters(trainer).items()}


def moved(trainer, before, part=0):
    """Names, at one place of their path, of the parameters that differ from `before`."""
    return {
        name.split(".")[part] for name, weight in parameters(trainer).items() if not torch.equal(weight, before[name])
    }


def test_every_parameter_changes_in_a_step(clips, tmp_path):
    recipe = adversarial_recipe(clips, train__steps=1, train__bypass_steps=0, optimizer__weight_decay=0)
    trainer = start(recipe, tmp_path)
    before = copy_of(trainer)
    trainer.fit()
    for name, weight in parameters(trainer).items():
        assert not torch.equal(weight, before[name]), name


def test_discriminators_learn_from_start_step_on(clips, tmp_path):
    recipe = adversarial_recipe(clips, train__steps=3, discriminators__start_step=2)
    trainer = start(recipe, tmp_path)
    before = copy_of(trainer)
    changed = []
    step = trainer._step

    def watched(batch, progress):
        result = step(batch, progress)
        changed.append(moved(trainer, before))
        return result

    trainer._step = watched
    trainer.fit()
    assert changed == [{"codec"}, {"codec"}, {"codec", "discriminators"}]


@pytest.mark.parametrize("only", ["adversarial", "feature_matching"])
def test_each_term_moves_decoder_and_encoder(clips, tmp_path, only):
    terms = ("waveform", "mel", "commitment", "adversarial", "feature_matching")
    off = {f"loss__{name}": 0.0 for name in terms}
    recipe = tiny_recipe(
        clips,
        **(off | {f"loss__{only}": 1.0}),
        discriminators=adversarial_changes()["discriminators"],
        optimizer__weight_decay=0,
        train__bypass_steps=0,
        train__steps=1,
    )
    trainer = start(recipe, tmp_path)
    before = copy_of(trainer)
    trainer.fit()
    assert {"encoder", "decoder"} <= moved(trainer, before, part=1)


def test_the_codebooks_learn_once_a_step(clips, tmp_path, monkeypatch):
    trainer = start(adversarial_recipe(clips, train__steps=3, train__bypass_steps=0), tmp_path)
    codebooks, updates = trainer.learner.codec.quantizer.codebooks, []
    follow = codebooks.follow
    monkeypatch.setattr(codebooks, "follow", lambda *args: (updates.append(trainer.progress.step), follow(*args))[1])
    tables = []
    backward = trainer.learner.adversary.backward

    def watched(*arguments):
        before = codebooks.table.clone()
        result = backward(*arguments)
        tables.append(torch.equal(before, codebooks.table))
        return result

    trainer.learner.adversary.backward = watched
    trainer.fit()
    assert updates == [0, 1, 2] and tables == [True] * 3


def test_an_infinite_gradient_of_a_discriminator_is_a_bad_step(clips, tmp_path):
    trainer = start(adversarial_recipe(clips, train__steps=1), tmp_path)
    trainer.learner.adversary.weights[0].register_hook(lambda gradient: gradient * torch.inf)
    before = copy_of(trainer)
    trainer.fit()
    assert trainer.progress.skipped_steps == 1
    for name, weight in parameters(trainer).items():
        assert torch.equal(weight, before[name]), name


def test_the_learning_rate_of_discriminators_follows_the_schedule_of_the_codec(clips, tmp_path, monkeypatch):
    recipe = adversarial_recipe(clips, discriminators__lr=1e-3, optimizer__lr=4e-3, train__steps=6)
    trainer = start(recipe, tmp_path)
    apply, rates = trainer.learner.adversary.apply, []

    def recorded(*arguments):
        apply(*arguments)
        rates.extend(float(group["lr"]) for group in trainer.learner.adversary.optimizer.param_groups)

    monkeypatch.setattr(trainer.learner.adversary, "apply", recorded)
    trainer.fit()
    expected = [learning_rate(recipe.optimizer, step, 6) / 4e-3 * 1e-3 for step in range(6)]
    assert rates == pytest.approx(expected) and len(set(expected)) > 3


def test_only_terms_with_a_weight_are_computed(clips):
    fabric = build_fabric("32-true", "cpu")
    target = torch.randn(2, 1, 1600)
    for name in ("adversarial", "feature_matching"):
        recipe = tiny_recipe(clips, **{f"loss__{name}": 0.5}, discriminators=adversarial_changes()["discriminators"])
        (term,) = build_adversary(recipe, fabric).terms(target, target).items()
        assert term[0] == name and term[1].weight == 0.5


def test_discriminators_are_refused_for_data_of_vectors():
    recipe = from_dict(
        Recipe,
        {
            "name": "vectors",
            "codec": {"latent_dim": 8, "encoder": {"kind": "identity"}, "decoder": {"kind": "identity"}},
            "data": {"kind": "gaussian"},
            "loss": {"adversarial": 1.0},
        },
        source="test",
    )
    with pytest.raises(ConfigError, match=one_line("loss.adversarial", "loss.feature_matching", 0)):
        build_adversary(recipe, build_fabric("32-true", "cpu"))


def test_discriminators_take_part_in_every_nth_step(clips, tmp_path):
    recipe = tiny_recipe(
        clips, **adversarial_changes(start_step=1, every=2), train__steps=6, train__log_every=1, train__bypass_steps=0
    )
    trainer = start(recipe, tmp_path)
    changed = []
    step = trainer._step

    def watched(batch, bar):
        before = copy_of(trainer)
        result = step(batch, bar)
        changed.append(moved(trainer, before))
        return result

    trainer._step = watched
    trainer.fit()
    both = {"codec", "discriminators"}
    assert changed == [{"codec"}, both, {"codec"}, both, {"codec"}, both]
    lines = history(tmp_path)
    assert [line.get("loss/adversarial") is not None for line in lines] == [False, True, False, True, False, True]


def test_training_works_with_spectral_discriminators_only(clips, tmp_path):
    small = {"periods": [], "fft_sizes": [256, 128], "spectral_channels": 8}
    recipe = tiny_recipe(clips, loss__adversarial=1.0, discriminators=small, train__steps=2, train__bypass_steps=0)
    trainer = start(recipe, tmp_path)
    before = copy_of(trainer)
    trainer.fit()
    assert moved(trainer, before) == {"codec", "discriminators"}
