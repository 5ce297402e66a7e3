"""Law: what torch has no module for is what torch's own operations compute in a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers import LAYERS, LENGTHS, TIME, assert_close, draw, score

import jaxrnn


NORM = LAYERS["lstm norm"]
KEY, RATE = jax.random.key(0), 0.37
flat = jax.tree.leaves
# Two layers where both dropouts meet and the states are of one or two arrays; one layer elsewhere,
# because compiling is nearly all the time it takes.
VARIANTS = {name: (layer.replace(num_layers=1), True) for name, layer in LAYERS.items()}
VARIANTS |= {
    "gru": (LAYERS["gru"], True),
    "lstm norm": (NORM, True),
    "lstm norm proj": (NORM.replace(proj_size=2, bias=False, num_layers=1), False),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("layer", "drop"), VARIANTS.values(), ids=VARIANTS)
def test_loop_in_torch(layer, drop, dtype):
    """Values and all gradients of a padded batch, given the masks."""
    leaves, options, masks = draw(layer, dtype=dtype), {}, {}
    if drop:
        masks["recurrent_masks"] = jaxrnn.recurrent_dropout_masks(KEY, *leaves[:2], RATE)
        options["recurrent_dropout"] = RATE
    if drop and layer.structure.num_layers > 1:
        masks["masks"] = jaxrnn.dropout_masks(KEY, *leaves[:2], RATE)
        options["dropout"] = RATE

    def scored(leaves):
        values = layer(*leaves, lengths=jnp.array(LENGTHS), **options, **masks)
        return score(values), values

    (_, values), gradients = jax.jit(jax.value_and_grad(scored, has_aux=True))(leaves)

    tensor = lambda tree: jax.tree.map(lambda a: torch.tensor(np.asarray(a)), tree)
    inputs = jax.tree.map(lambda a: a.requires_grad_(), tensor(leaves))
    wanted = loop(layer, *inputs, **tensor(masks))
    weights = tensor(jax.grad(score)(values))
    scalar = sum((a * b).sum() for a, b in zip(flat(wanted), flat(weights), strict=True))
    torchs = torch.autograd.grad(scalar, flat(inputs))
    numpy = lambda tree: jax.tree.map(lambda a: a.detach().numpy(), tree)
    assert_close(values, numpy(wanted))
    assert_close(gradients, jax.tree.unflatten(jax.tree.structure(leaves), numpy(torchs)))


def loop(layer, params, x, state, masks=None, recurrent_masks=None):
    """The layer as loops over layers, directions and steps, on torch's tensors."""
    s, finals = layer.structure, []
    for number in range(s.num_layers):
        outs = []
        for order in [range(TIME), range(TIME)[::-1]][: s.num_directions]:
            i, suffix = len(finals), s.suffixes[len(finals)]
            own = {k.removesuffix(suffix): a for k, a in params.items() if k.endswith(suffix)}
            keep = 1.0 if recurrent_masks is None else recurrent_masks[i].to(x.dtype) / (1 - RATE)
            now, out = [a[i] for a in flat(state)], [None] * TIME
            for t in order:
                valid = torch.tensor([[t < length] for length in LENGTHS])
                new = step(layer, own, x[t], now, now[0] * keep)
                now = [torch.where(valid, a, b) for a, b in zip(new, now, strict=True)]
                out[t] = torch.where(valid, now[0], 0.0)
            outs.append(torch.stack(out))
            finals.append(now)
        x = torch.cat(outs, -1)
        if masks is not None and number < len(masks):
            x = x * masks[number] / (1 - RATE)
    return x, jax.tree.unflatten(
        jax.tree.structure(state), [torch.stack(a) for a in zip(*finals, strict=True)]
    )


def step(layer, p, x, state, kept):
    """One time step; `kept` is h as the product with `weight_hh` sees it."""
    s, h = layer.structure, state[0]
    a, b = x @ p["weight_ih"].T, kept @ p["weight_hh"].T
    if s.layer_norm:
        norm = lambda end, a: torch.nn.functional.layer_norm(
            a, a.shape[1:], p["weight_ln_" + end], p.get("bias_ln_" + end), eps=1e-5
        )
        a, b = norm("ih", a), norm("hh", b)
    else:
        norm = lambda _, c: c
        a, b = a + p["bias_ih"], b + p["bias_hh"]
    if s.kind == "rnn":
        return [torch.relu(a + b) if layer.nonlinearity == "relu" else torch.tanh(a + b)]
    if s.kind == "gru":
        (r, z, n), (hr, hz, hn) = a.chunk(3, 1), b.chunk(3, 1)
        r, z = torch.sigmoid(r + hr), torch.sigmoid(z + hz)
        return [(1 - z) * torch.tanh(n + r * hn) + z * h]
    i, f, g, o = (a + b).chunk(4, 1)
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(norm("c", c))
    return [h @ p["weight_hr"].T if s.proj_size else h, c]


def test_norms_of_bfloat16_are_taken_in_float32():
    """Gate inputs of about 300 ± 3 would be two or three different numbers in bfloat16."""
    params, x, _ = draw(NORM.cell, dtype="bfloat16")
    params["weight_ih"] += 64
    to = lambda tree, dtype: jax.tree.map(lambda a: a.astype(dtype), tree)
    wanted = jaxrnn.lstm_cell(to(params, float), to(x, float))
    assert_close(jaxrnn.lstm_cell(params, x), to(wanted, "bfloat16"))
