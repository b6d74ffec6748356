"""Initial codewords: what each method draws, reproducibly, and the residual that the next level starts from."""

import pytest
import torch
from einops import rearrange
from messages import one_line
from models import make_quantizer, noise, seeded

from codec.errors import ConfigError
from codec.model.quantizer.initialization import MAX_SPREAD, Initialization, draw_rows, kmeans, spread_directions
from codec.model.quantizer.search import nearest

METHODS = ["kmeans", "data", "normal", "spread"]


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


def draw(method, vectors, num_codewords, *, seed=0, normalize=False, **facts):
    return Initialization(method, **facts).draw(vectors, num_codewords, generator=seeded(seed), normalize=normalize)


def rows_of(codewords, vectors):
    """Which row of the vectors each codeword is; every codeword must be one."""
    same = (codewords[:, None] == vectors).all(-1)
    assert same.any(1).all()
    return same.int().argmax(1).tolist()


# ---- All methods


@pytest.mark.parametrize("num_vectors", [1, 5, 8, 100])
@pytest.mark.parametrize("normalize", [False, True])
def test_there_are_as_many_codewords_as_asked_for(method, num_vectors, normalize):
    """Also with fewer vectors than codewords."""
    codewords, counts = draw(method, noise(num_vectors, 3), 8, normalize=normalize)
    assert codewords.shape == (8, 3)
    assert counts.shape == (8,)
    assert codewords.dtype == counts.dtype == torch.float32
    assert codewords.isfinite().all()
    assert (counts >= 0).all()
    assert counts.sum() == (num_vectors if method == "kmeans" else 8)


def test_the_generator_alone_decides(method):
    vectors = noise(100, 3)
    results = []
    for seed, global_seed in ((0, 0), (0, 1), (1, 1)):
        with torch.random.fork_rng():
            torch.manual_seed(global_seed)
            before = torch.random.get_rng_state()
            results.append(draw(method, vectors, 8, seed=seed))
            assert torch.equal(torch.random.get_rng_state(), before)
    first, again, other = results
    for ours, same in zip(first, again, strict=True):
        assert torch.equal(ours, same)
    assert not torch.equal(first[0], other[0])


def test_the_vectors_stay_as_they_are(method):
    vectors = noise(100, 3)
    before = vectors.clone()
    codewords, _ = draw(method, vectors, 8)
    codewords.zero_()
    assert torch.equal(vectors, before)


@pytest.mark.parametrize("scale", [0.125, 1.0, 2.0])
def test_the_scale_multiplies_codewords_and_not_their_counts(method, scale):
    vectors = noise(100, 3)
    codewords, counts = draw(method, vectors, 8)
    scaled, same_counts = draw(method, vectors, 8, scale=scale)
    assert torch.equal(scaled, scale * codewords)
    assert torch.equal(same_counts, counts)


def test_equal_vectors_make_finite_codewords(method):
    codewords, _ = draw(method, torch.full((50, 3), 0.25), 8)
    assert codewords.isfinite().all()
    if method in ("kmeans", "data"):
        assert (codewords == 0.25).all()


# ---- Live vectors


def test_codewords_of_data_are_distinct_vectors():
    vectors = noise(40, 3)
    codewords, counts = draw("data", vectors, 30)
    assert len(set(rows_of(codewords, vectors))) == 30
    assert torch.equal(counts, torch.ones(30))
    assert sorted(rows_of(draw("data", vectors, 40)[0], vectors)) == list(range(40))


def test_codewords_of_data_are_drawn_from_all_vectors_alike():
    """Over many draws of a quarter of the vectors, each is drawn about as often as any other: 50 times, give or take
    six standard deviations of sqrt(200 * 1/4 * 3/4) = 6.1."""
    vectors = noise(40, 3)
    drawn = torch.zeros(40)
    for seed in range(200):
        drawn[rows_of(draw("data", vectors, 10, seed=seed)[0], vectors)] += 1
    assert drawn.sum() == 2000
    assert (drawn - 50).abs().max() < 6 * 6.1


def test_fewer_vectors_than_codewords_are_used_equally_often():
    vectors = noise(5, 3)
    uses = torch.bincount(torch.tensor(rows_of(draw("data", vectors, 13)[0], vectors)), minlength=5)
    assert sorted(uses.tolist()) == [2, 2, 3, 3, 3]


@pytest.mark.parametrize(("population", "number"), [(1, 1), (1, 4), (5, 3), (5, 5), (5, 13), (100, 7)])
def test_rows_are_distinct_while_the_population_lasts(population, number):
    rows = draw_rows(population, number, seeded(0)).tolist()
    assert len(rows) == number
    for first in range(0, number, population):
        some = rows[first : first + population]
        assert len(set(some)) == len(some)
        assert set(some) <= set(range(population))


# ---- Normal vectors


def test_normal_codewords_depend_on_no_vector():
    first, second = draw("normal", noise(100, 3), 8), draw("normal", 100 + noise(7, 3, seed=1), 8)
    for ours, theirs in zip(first, second, strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(first[1], torch.ones(8))


def test_normal_codewords_have_unit_covariance():
    """Six standard deviations of a mean of 20,000 values of variance 1, and of their products, of variance up to 2."""
    codewords, _ = draw("normal", noise(1, 4), 20_000)
    assert codewords.mean(0).abs().max() < 6 * 20_000**-0.5
    assert (codewords.T.cov() - torch.eye(4)).abs().max() < 6 * (2 / 20_000) ** 0.5


# ---- Spread over a sphere


def cosines(directions):
    """Of the angles between all pairs, without each direction and itself."""
    return (directions @ directions.T)[~torch.eye(len(directions), dtype=torch.bool)]


@pytest.mark.parametrize("dim", [2, 3, 8])
def test_spread_directions_find_the_known_optima(dim):
    """d + 1 directions make a simplex, 2 d of them a cross-polytope: the unique optimum of any such energy."""
    simplex = cosines(spread_directions(dim + 1, dim, generator=seeded(0), iterations=400))
    torch.testing.assert_close(simplex, torch.full_like(simplex, -1 / dim), rtol=0, atol=0.02)
    cross = cosines(spread_directions(2 * dim, dim, generator=seeded(0), iterations=400))
    opposite = cross < -0.5
    assert opposite.sum() == 2 * dim
    torch.testing.assert_close(cross[opposite], torch.full((2 * dim,), -1.0), rtol=0, atol=0.02)
    assert cross[~opposite].abs().max() < 0.05


def test_directions_are_unit_vectors_that_keep_off_each_other():
    directions = spread_directions(64, 4, generator=seeded(0))
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(64))
    assert not directions.requires_grad
    random = torch.nn.functional.normalize(noise(64, 4), dim=-1)
    assert cosines(directions).max() < 0.85 < 0.95 < cosines(random).max()


def test_spread_codewords_have_the_shape_of_the_vectors():
    """All are at the Mahalanobis distance sqrt(d) from zero, like vectors of high dimension: on an ellipsoid."""
    vectors = noise(5000, 4, scale=1.0) @ noise(4, 4, seed=1, scale=1.0)
    codewords, counts = draw("spread", vectors, 32)
    inverse = torch.linalg.inv(vectors.double().T @ vectors.double() / 5000)
    codewords = codewords.double()
    torch.testing.assert_close(
        torch.einsum("nd,de,ne->n", codewords, inverse, codewords), torch.full((32,), 4.0).double(), rtol=1e-4, atol=0
    )
    assert torch.equal(counts, torch.ones(32))


def test_spread_codewords_are_found_while_gradients_are_off():
    """A training run initialises without gradients."""
    with torch.no_grad():
        first, _ = draw("spread", noise(100, 3), 8)
    assert torch.equal(first, draw("spread", noise(100, 3), 8)[0])
    assert cosines(torch.nn.functional.normalize(first, dim=-1)).max() < 0.9


@pytest.mark.parametrize(("number", "dim"), [(MAX_SPREAD + 1, 8), (8, 1)])
def test_too_many_codewords_or_one_dimension_cannot_be_spread(number, dim):
    with pytest.raises(ConfigError, match=one_line(MAX_SPREAD, "codewords", dim, number)):
        draw("spread", noise(10, dim), number)


# ---- k-means


@pytest.mark.parametrize("normalize", [False, True])
def test_codewords_of_kmeans_are_its_centroids_with_their_counts(normalize):
    vectors = noise(300, 3)
    codewords, counts = draw("kmeans", vectors, 8, iterations=7, normalize=normalize)
    centroids, sizes = kmeans(vectors, 8, iterations=7, generator=seeded(0), normalize=normalize)
    assert torch.equal(codewords, centroids)
    assert torch.equal(counts, sizes)


def test_kmeans_starts_at_live_vectors_and_every_round_brings_it_nearer():
    vectors = noise(1000, 3)
    start, _ = draw("data", vectors, 16)
    rounds = [start, *(draw("kmeans", vectors, 16, iterations=iterations)[0] for iterations in (1, 2, 4, 8, 16))]
    errors = [(vectors - codewords[nearest(vectors, codewords)]).square().mean().item() for codewords in rounds]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.8 * errors[0]


def test_one_round_of_kmeans_is_one_round_of_means():
    vectors = noise(300, 3)
    start, _ = draw("data", vectors, 8)
    members = nearest(vectors, start)
    codewords, counts = draw("kmeans", vectors, 8, iterations=1)
    for cluster in range(8):
        assert counts[cluster] == (members == cluster).sum()
        torch.testing.assert_close(codewords[cluster], vectors[members == cluster].mean(0))


def test_kmeans_by_direction_shares_out_vectors_by_direction():
    """Two rays with lengths from 0.1 to 10: by distance the short vectors of both are one cluster."""
    directions = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    lengths = torch.logspace(-1, 1, 50)
    vectors = (lengths[:, None, None] * directions).reshape(-1, 2)
    codewords, counts = draw("kmeans", vectors, 2, normalize=True, seed=1)
    assert counts.tolist() == [50, 50]
    order = codewords[:, 1].argsort()
    torch.testing.assert_close(codewords[order], lengths.mean() * directions)


# ---- Inside a quantizer


@pytest.mark.parametrize("kind", ["ema", "gradient"])
def test_every_level_starts_from_the_residual_of_the_scaled_levels_before_it(kind):
    quantizer = make_quantizer(kind, latent_dim=6, num_quantizers=3)
    latents = noise(3, 6, 40)
    quantizer.initialize(latents, initialization=Initialization("data", scale=0.5), generator=seeded(0))
    residual = rearrange(latents, "b d f -> (b f) d")
    table = quantizer.codebooks.table.detach()
    for level in range(3):
        assert len(set(rows_of(table[level], 0.5 * residual))) == 16
        residual = residual - table[level, nearest(residual, table[level])]
    assert torch.equal(quantizer.codebooks.counts, torch.ones(3, 16))


def test_a_quantizer_starts_the_same_from_the_same_generator(method):
    tables = []
    for seed in (0, 0, 1):
        quantizer = make_quantizer(num_quantizers=2)
        quantizer.initialize(noise(3, 10, 40), initialization=Initialization(method), generator=seeded(seed))
        tables.append(quantizer.codebooks.table)
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])


def test_scaled_codewords_of_moving_averages_are_their_sums_over_their_counts(method):
    """Otherwise the first update would pull them back to their full size."""
    quantizer = make_quantizer("ema", latent_dim=6)
    initialization = Initialization(method, scale=0.25)
    quantizer.initialize(noise(3, 6, 100), initialization=initialization, generator=seeded(0))
    codebooks = quantizer.codebooks
    torch.testing.assert_close(codebooks.counts.mean(-1), torch.ones(4))
    used = codebooks.counts > 0
    torch.testing.assert_close((codebooks.sums / codebooks.counts[..., None])[used], codebooks.table[used])


@pytest.mark.parametrize("kind", ["ema", "gradient"])
@pytest.mark.parametrize("uses", [0.25, 40.0])
@pytest.mark.parametrize("method", ["kmeans", "data"])
def test_codewords_start_with_the_count_that_a_step_gives_them(method, kind, uses):
    """The codewords and which of them are dead are the same for any count."""
    quantizers = []
    for count in (1.0, uses):
        quantizer = make_quantizer(kind, latent_dim=6)
        quantizer.initialize(noise(3, 6, 40), initialization=Initialization(method, uses=count), generator=seeded(0))
        quantizers.append(quantizer)
    expected, found = (quantizer.codebooks for quantizer in quantizers)
    assert torch.equal(found.table, expected.table)
    torch.testing.assert_close(found.counts, uses * expected.counts)
    torch.testing.assert_close(found.counts.mean(-1), torch.full((4,), uses))
    assert torch.equal(found.dead_codewords(), expected.dead_codewords())
    if kind == "ema":
        torch.testing.assert_close(found.sums, found.counts[..., None] * found.table)


def test_the_default_is_unscaled_kmeans():
    assert Initialization() == Initialization(method="kmeans", iterations=10, scale=1.0, uses=1.0)
