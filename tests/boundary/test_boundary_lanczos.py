import torch

from levelset.boundary._lanczos import lanczos


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
