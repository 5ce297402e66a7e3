"""Fixtures of the tests that run users' torch modules."""

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread():
    """Small tensors are quicker on one thread, next to other tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def seeded():
    torch.manual_seed(0)
