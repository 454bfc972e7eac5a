import torch

from levelset.boundary._second_order._lanczos import lanczos, trace_beyond


def draws(noise, m, e):
    return lambda number: noise(m, e, seed=number)


def symmetric(noise, m, e):
    matrix = noise(m, e, e, seed=9)
    return matrix + matrix.transpose(1, 2)


def test_a_space_of_full_size_gives_all_eigenpairs(noise):
    matrix = symmetric(noise, 4, 9)
    product = lambda v: (matrix @ v.unsqueeze(2)).squeeze(2)  # noqa: E731
    found = lanczos(product, draws(noise, 4, 9), None, 9)
    torch.testing.assert_close(found.values, torch.linalg.eigvalsh(matrix))
    images = torch.einsum("mij,msj->msi", matrix, found.vectors)
    torch.testing.assert_close(images, found.vectors * found.values.unsqueeze(2))


def test_the_residual_is_that_of_the_pairs_and_the_basis_is_orthonormal(noise):
    matrix = symmetric(noise, 3, 40)
    product = lambda v: (matrix @ v.unsqueeze(2)).squeeze(2)  # noqa: E731
    fixed = noise(3, 40, seed=77)
    fixed = fixed / fixed.norm(dim=1, keepdim=True)
    projected = lambda v: product(v) - (product(v) * fixed).sum(1, keepdim=True) * fixed  # noqa: E731
    found = lanczos(projected, draws(noise, 3, 40), fixed, 12)
    off = torch.stack([projected(found.vectors[:, s]) for s in range(12)], 1)
    off = (off - found.vectors * found.values.unsqueeze(2)).norm(dim=2)
    torch.testing.assert_close(found.residual, off)
    whole = torch.cat([found.basis, fixed.unsqueeze(1)], 1)
    torch.testing.assert_close(
        whole @ whole.transpose(1, 2), torch.eye(13, dtype=torch.float64).expand(3, 13, 13)
    )


def test_eigenvalues_come_with_their_multiplicity_and_zero_is_one_of_them(noise):
    levels = torch.tensor([3.0, 3.0, 3.0, -1.0, -1.0, 0.0, 0.0], dtype=torch.float64)
    found = lanczos(lambda v: v * levels, draws(noise, 2, 7), None, 7)
    torch.testing.assert_close(found.values, levels.sort().values.expand(2, 7))
    nothing = lanczos(torch.zeros_like, draws(noise, 2, 7), None, 4)
    assert (nothing.values == 0).all()
    assert (nothing.residual == 0).all()


def test_sharper_values_are_nearer_and_stay_within_the_residual(noise):
    levels = torch.linspace(0.0, 1.0, 300, dtype=torch.float64).pow(8)
    levels[::2] *= -1.0
    found = lanczos(lambda v: v * levels, draws(noise, 5, 300), None, 16)
    truth = levels.sort().values
    for take in (slice(-3, None), slice(None, 3)):
        before = (found.values[:, take] - truth[take]).abs()
        after = (found.sharper[:, take] - truth[take]).abs()
        assert (after.amax(1) < before.amax(1)).all()
    moved = (found.sharper - found.values).abs()
    assert (moved <= found.residual + 1e-12).all()
    whole = lanczos(lambda v: v * levels[:8], draws(noise, 2, 8), None, 8)
    torch.testing.assert_close(whole.sharper, whole.values)


def test_sharpening_is_that_of_the_larger_space_where_its_rayleigh_quotient_is_the_mean(noise):
    # All of zero diagonal: the quotients are 0, and so is that of the next vector.
    shift = torch.diag_embed(torch.ones(59, dtype=torch.float64), offset=1)
    matrix = shift + shift.T
    first = torch.eye(60, dtype=torch.float64)[:1]
    short = lanczos(lambda v: v @ matrix, lambda _: first, None, 6)
    longer = lanczos(lambda v: v @ matrix, lambda _: first, None, 7)
    plain = (short.values[:, -1] - longer.values[:, -1]).abs()
    assert (short.sharper[:, -1] - longer.values[:, -1]).abs() < 0.5 * plain


def test_the_estimate_is_unbiased_with_the_spread_it_says(noise):
    matrix = noise(30, 30, seed=1)
    matrix = (matrix + matrix.T).expand(400, 30, 30)
    basis = torch.linalg.qr(noise(30, 6, seed=2)).Q.T.expand(400, 6, 30)
    truth = matrix[0].trace() - (basis[0] @ matrix[0] @ basis[0].T).trace()
    draw = lambda number: noise(400, 30, seed=100 + number)  # noqa: E731
    mean, error = trace_beyond(lambda v: (matrix @ v.unsqueeze(2))[:, :, 0], basis, draw, 20)
    assert abs(float(mean.mean() - truth)) < 4.0 * float(mean.std()) / 20.0
    assert 0.9 < float(mean.std() / error.square().mean().sqrt()) < 1.1


def test_nothing_is_left_beyond_the_whole_space(noise):
    matrix = noise(1, 5, 5)
    basis = torch.eye(5, dtype=torch.float64).unsqueeze(0)
    mean, error = trace_beyond(
        lambda v: (matrix @ v.unsqueeze(2))[:, :, 0], basis, lambda k: noise(1, 5, seed=k), 4
    )
    assert float(mean.abs() + error) < 1e-12
