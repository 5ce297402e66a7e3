"""Law: parameters go through state_dicts and files, to torch and back, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.torch
import torch

import jaxrnn


SUFFIXES = (".safetensors", ".npz", ".pt", ".pth")
# 1 and -0.0, a subnormal, both infinities, NaNs quiet, negative, with payload and signalling.
BITS = {
    "float64": ("uint64", [0x3FF << 52, 1 << 63, 1, 0x7FF << 52, 0xFFF << 52,
                           0x7FF8 << 48, 0xFFF8 << 48, (0x7FF8 << 48) + 5, (0x7FF << 52) + 1]),
    "float32": ("uint32", [0x3F800000, 1 << 31, 1, 0x7F800000, 0xFF800000,
                           0x7FC00000, 0xFFC00000, 0x7FC00005, 0x7F800001]),
    "bfloat16": ("uint16", [0x3F80, 1 << 15, 1, 0x7F80, 0xFF80, 0x7FC0, 0xFFC0, 0x7FC5, 0x7F81]),
}  # fmt: skip


def hard_values(dtype):
    unsigned, bits = BITS[dtype]
    return np.array(bits, unsigned).view(jnp.dtype(dtype))


def params_of(dtype):
    values = hard_values(dtype)
    table = values.reshape(3, 3)
    return {
        "scalar": values[6].reshape(()),
        "empty": values[:0],
        "encoder": {"lstm": {"bias": values, "weight": table}, "transposed": table.T},
        "strided": np.tile(values, 2)[::2],
        "steps": np.array(2**40 + 1),
        "seen": np.array([True, False]),
    }


def as_bytes(tree):
    """Every leaf as (dtype, shape, bytes), so that NaN equals itself and -0.0 differs from 0.0."""

    def leaf(array):
        if isinstance(array, torch.Tensor):
            dtype, bits = str(array.dtype).removeprefix("torch."), array.detach()
            bits = bits.view(torch.int16) if dtype == "bfloat16" else bits
            return dtype, tuple(array.shape), bits.numpy().tobytes()
        array = np.asarray(array)
        return str(array.dtype), array.shape, array.tobytes()

    return jax.tree.map(leaf, tree)


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_save_then_load(tmp_path, suffix, dtype, kind):
    params = jax.tree.map(kind, params_of(dtype))
    path = tmp_path / f"params{suffix}"
    jaxrnn.save(path, params)
    loaded = jaxrnn.load(str(path))
    assert as_bytes(loaded) == as_bytes(params)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(loaded))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_save_keeps_float64_without_x64(tmp_path, suffix):
    params = params_of("float64")
    with jax.enable_x64(False):
        jaxrnn.save(tmp_path / f"params{suffix}", params)
    assert as_bytes(jaxrnn.load(tmp_path / f"params{suffix}")) == as_bytes(params)


@pytest.mark.parametrize("dtype", BITS)
def test_torch_reads_what_is_saved(tmp_path, dtype):
    params = params_of(dtype)
    wanted = as_bytes(jaxrnn.to_state_dict(params))
    jaxrnn.save(tmp_path / "a.pt", params)
    jaxrnn.save(tmp_path / "a.safetensors", params)
    assert as_bytes(torch.load(tmp_path / "a.pt", weights_only=True)) == wanted
    assert as_bytes(safetensors.torch.load_file(tmp_path / "a.safetensors")) == wanted


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("dtype", BITS)
def test_load_reads_what_torch_saved(tmp_path, dtype, suffix):
    unsigned, bits = BITS[dtype]
    signed = np.array(bits, unsigned).view(unsigned.removeprefix("u"))
    values = torch.from_numpy(signed).view(getattr(torch, dtype))
    state_dict = {
        "a.b": values,
        "a.scalar": values[6].clone(),
        "c": values.reshape(3, 3).T.contiguous(),
    }
    save = safetensors.torch.save_file if suffix == ".safetensors" else torch.save
    save(state_dict, tmp_path / f"a{suffix}")
    loaded = jaxrnn.load(tmp_path / f"a{suffix}")
    assert as_bytes(jaxrnn.to_state_dict(loaded)) == as_bytes(state_dict)
    assert set(loaded["a"]) == {"b", "scalar"}


@pytest.mark.parametrize("dtype", BITS)
def test_from_state_dict_takes_tensors_as_they_lie(dtype):
    unsigned, bits = BITS[dtype]
    signed = np.array(bits, unsigned).view(unsigned.removeprefix("u"))
    values = torch.from_numpy(signed).view(getattr(torch, dtype))
    lies = {
        "scalar": values[6],
        "transposed": values.reshape(3, 3).T,
        "strided": values[::2],
        "leaf": values.clone().requires_grad_(),
        "parameter": torch.nn.Parameter(values.reshape(3, 3).T),
    }
    assert as_bytes(jaxrnn.from_state_dict(lies)) == as_bytes(lies)


class Model(torch.nn.Module):
    """An LSTM with all its options inside a larger module, with buffers."""

    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Module()
        self.encoder.lstm = torch.nn.LSTM(3, 5, 2, bidirectional=True, proj_size=2)
        self.norm = torch.nn.BatchNorm1d(4)
        self.heads = torch.nn.ModuleList([torch.nn.Linear(4, 1), torch.nn.GRUCell(4, 2)])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("x64", [True, False])
def test_a_torch_module_comes_back_as_it_was(tmp_path, dtype, x64):
    if dtype == torch.float64 and not x64:
        pytest.skip("refused, see test_errors.py")
    module, fresh = Model().to(dtype), Model().to(dtype)
    module.norm.num_batches_tracked += 7
    torch.save(module.state_dict(), tmp_path / "model.pt")
    with jax.enable_x64(x64):
        params = jaxrnn.load(tmp_path / "model.pt")
        assert params["norm"]["num_batches_tracked"] == 7
        found = jaxrnn.structure(params["encoder"]["lstm"])
        assert found == jaxrnn.Structure("lstm", 3, 5, 2, True, True, 2)
        state_dict = jaxrnn.to_state_dict(params)
        fresh.load_state_dict({k: torch.from_dlpack(v) for k, v in state_dict.items()})
    assert list(state_dict) == list(module.state_dict())  # in torch's order too
    assert as_bytes(dict(fresh.state_dict())) == as_bytes(dict(module.state_dict()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_from_state_dict_copies(dtype):
    """torch's optimisers write in place, which must not reach what jaxrnn holds."""
    module = torch.nn.GRU(3, 64, dtype=dtype)
    arrays = {"numpy": np.ones((64, 64))}
    params, copied = jaxrnn.from_state_dict(module.state_dict()), jaxrnn.from_state_dict(arrays)
    before = as_bytes([params, copied])
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(7)
    arrays["numpy"][:] = 7
    assert as_bytes([params, copied]) == before


def test_state_dict_round_trip_is_identity():
    params = jax.tree.map(jnp.asarray, params_of("float32"))
    flat = jaxrnn.to_state_dict(params)
    assert "encoder.lstm.weight" in flat
    assert flat["scalar"] is params["scalar"]  # passed on, not copied
    assert as_bytes(jaxrnn.from_state_dict(flat)) == as_bytes(params)
