"""Ordinary networks of many kinds, as people export them."""

import torch
from torch import nn


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 4)

    def forward(self, x):
        x = torch.relu(x + self.norm(self.conv(x)))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.body, self.head = kind(5, 6, batch_first=True, num_layers=2), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.body(x)[0][:, -1])


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.body, self.head = nn.TransformerEncoder(layer, 1), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.body(x).mean(1))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.body(x, x, x)[0].mean(1).softmax(-1)


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return torch.cond(
            x.sum() > 0, lambda x: self.layer(x).sin(), lambda x: self.layer(x).cos(), (x,)
        )


class Guarded(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        with torch.no_grad():
            y = self.layer(x)
        return y + x[:, :3]


class Resized(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)

    def forward(self, x):
        x = self.conv(x)
        size = (x.shape[2] * 2, x.shape[3] // 2)
        x = nn.functional.interpolate(x, size=size, mode="bilinear")
        x = nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
        return nn.functional.max_pool2d(x, 2, ceil_mode=True).mean((2, 3))


class Causal(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(50, 8), nn.Parameter(torch.randn(64, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        n = x.shape[1]
        words = self.words((x * 10).long().clamp(0, 49)) + self.places[:n]
        mask = torch.triu(torch.full((n, n), float("-inf")), 1)
        weights = (words @ words.transpose(1, 2) / 8**0.5 + mask).softmax(-1)
        return self.head((weights @ words)[:, -1])


class Named(nn.Module):
    """Answers a dictionary with a tuple in it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return {"logits": self.layer(x), "more": (x,)}


class Einstein(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3))

    def forward(self, x):
        y = torch.einsum("ni,ij->nj", x, self.weight)
        return torch.where(y > 0, y, torch.div(y, 3, rounding_mode="floor")).cumsum(1)


def zoo():
    """Return networks by name: each with an input, and which of its axes may differ."""
    convolutions = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Dropout(), nn.Linear(36, 3),
    )  # fmt: skip
    norms = nn.Sequential(
        nn.GroupNorm(1, 4), nn.LayerNorm(4), nn.GELU(approximate="tanh"), nn.SiLU(), nn.Softplus(),
        nn.ELU(), nn.PReLU(), nn.Hardswish(), nn.Mish(), nn.InstanceNorm1d(4), nn.LogSoftmax(-1),
    )  # fmt: skip
    pools = nn.Sequential(
        nn.AvgPool2d(2), nn.AdaptiveMaxPool2d(3), nn.ConvTranspose2d(3, 3, 2), nn.PixelShuffle(1),
        nn.Upsample(scale_factor=2), nn.ZeroPad2d(1), nn.ReflectionPad2d(1), nn.CircularPad2d(1),
    )  # fmt: skip
    weights = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    row, picture, sequence = torch.randn(5, 4), torch.randn(5, 3, 9, 11), torch.randn(5, 7, 5)
    return {
        "linear": (nn.Sequential(nn.Linear(4, 3)), row, (0,)),
        "a fixed batch": (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Dropout()), row, ()),
        "convolutions": (convolutions, torch.randn(5, 1, 8, 8), (0,)),
        "residual": (Residual(), picture, (0,)),
        "residual of any size": (Residual(), picture, (0, 2, 3)),
        "lstm": (Recurrent(nn.LSTM), sequence, (0,)),
        "gru": (Recurrent(nn.GRU), sequence, (0,)),
        "rnn": (Recurrent(nn.RNN), sequence, (0,)),
        "encoder": (Encoder(), torch.randn(5, 7, 8), (0,)),
        "attention": (Attention(), torch.randn(5, 7, 8), (0,)),
        "branches": (Branches(), row, (0,)),
        "guarded": (Guarded(), row, (0,)),
        "resized": (Resized(), torch.randn(5, 3, 17, 21), (0, 2, 3)),
        "causal": (Causal(), torch.rand(5, 7), (0, 1)),
        "named": (Named(), row, (0,)),
        "einstein": (Einstein(), row, (0,)),
        "norms": (norms, torch.randn(5, 4, 4), (0,)),
        "pools": (pools, torch.randn(2, 3, 8, 8), (0,)),
        "weight norm": (nn.Sequential(weights), row, (0,)),
    }
