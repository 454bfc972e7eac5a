import torch

from levelset.boundary._second_order._trace import trace_beyond


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
