"""Modules and their ports, for the tests of `parity.compare`."""

import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

import jaxrnn
import parity


class Classifier(nn.Module):
    """An embedding, a bidirectional LSTM, and a linear layer on its final states."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.embedding = nn.Embedding(11, 4, padding_idx=0)
        self.lstm = nn.LSTM(4, 5, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(10, 3)

    def forward(self, ids):
        y, (h, _) = self.lstm(self.embedding(ids))
        return self.fc(self.dropout(torch.cat([h[0], h[1]], dim=1))), y


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.out = nn.Embedding(7, 3), nn.Linear(3, 7)
        self.out.weight = self.embedding.weight

    def forward(self, ids):
        return self.out(self.embedding(ids))


IDS = np.array([[1, 2, 3, 4], [5, 6, 0, 0], [7, 8, 9, 0]])
NAMES = ["logits", "y"]


def classify(params, ids):
    x = jaxrnn.embedding(params["embedding"], ids, padding_idx=0)
    y, (h, _) = jaxrnn.lstm(params["lstm"], x, batch_first=True)
    return jaxrnn.linear(params["fc"], jnp.concatenate([h[0], h[1]], axis=1)), y


def linear(params, x):
    return x @ params["weight"].T + params["bias"]


def compare_linear(function=linear, module=None, **options):
    options = {"inputs": [(4, 3)], "gradients": False} | options
    return parity.compare(module or nn.Linear(3, 2), function, **options)


def differing(report):
    return [row.tensor for row in report.rows() if row.wrong]
