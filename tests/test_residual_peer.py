import pytest
import torch

import codec.bench.residual_peer
from codec.bench.residual_peer import Sizes, _build_ours, _build_theirs, _steps, compare_residual
from codec.errors import ConfigError

SIZES = Sizes(num_quantizers=3, codebook_size=16, codebook_dim=4, batch_size=2, num_frames=100)


@pytest.fixture(scope="module")
def latents():
    return torch.randn(2, 4, 100, generator=torch.Generator().manual_seed(0))


def test_both_find_the_same_and_are_timed():
    pytest.importorskip("vector_quantize_pytorch")
    result = compare_residual(SIZES, num_rounds=2, budget_s=60.0)
    assert result.sizes == SIZES
    assert result.equal_codes == 1
    assert result.largest_difference < 1e-6
    assert [row.task for row in result.speeds] == ["search", "training step"]
    for row in result.speeds:
        for times in (row.ours_ms, row.theirs_ms, row.theirs_over_ours):
            assert 0 < times.quartile_1 <= times.median <= times.quartile_3
            assert times.num_rounds == 2


def test_other_codebooks_are_noticed(monkeypatch):
    pytest.importorskip("vector_quantize_pytorch")
    build = codec.bench.residual_peer._build_theirs

    def rolled(sizes, ours):
        theirs = build(sizes, ours)
        theirs.layers[0]._codebook.embed.copy_(theirs.layers[0]._codebook.embed.roll(1, dims=1))
        return theirs

    monkeypatch.setattr(codec.bench.residual_peer, "_build_theirs", rolled)
    assert compare_residual(SIZES, num_rounds=1, budget_s=60.0).equal_codes < 0.9


def test_a_training_step_of_both_is_the_same_step(latents):
    pytest.importorskip("vector_quantize_pytorch")
    ours = _build_ours(SIZES, latents)
    theirs = _build_theirs(SIZES, ours)
    alive = ours.codebooks.counts > 4  # far from dead: a revived codeword is drawn at random
    before = ours.codebooks.table.clone()
    for step in _steps(ours, theirs, latents).values():
        step()
    table = torch.stack([layer._codebook.embed[0] for layer in theirs.layers])
    assert alive.float().mean() > 0.5
    torch.testing.assert_close(table[alive], ours.codebooks.table[alive], rtol=1e-3, atol=1e-4)  # theirs smooths counts
    assert (ours.codebooks.table - before).abs().max() > 1e-4


def test_not_installed(monkeypatch):
    def missing(package, extra):
        raise ConfigError(f"{package} of {extra}")

    monkeypatch.setattr(codec.bench.residual_peer, "require", missing)
    with pytest.raises(ConfigError, match=r"^vector_quantize_pytorch of bench$"):
        compare_residual(SIZES, num_rounds=1, budget_s=60.0)
