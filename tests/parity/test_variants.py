"""Law: what torch has no module for is what torch's own operations compute in a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers import LAYERS, LENGTHS, TIME, assert_close, draw, score

import jaxrnn


NORM = LAYERS["lstm norm"]
RATE = 0.37
flat = jax.tree.leaves
# Both dropouts meet in two layers, whose states are one array or two; elsewhere one layer will do,
# since compiling takes nearly all the time.
VARIANTS = {name: (layer.replace(num_layers=1), True) for name, layer in LAYERS.items()}
VARIANTS |= {
    "gru": (LAYERS["gru"], True),
    "lstm norm": (NORM.replace(bidirectional=False), True),
    "lstm norm proj": (NORM.replace(proj_size=2, bias=False, num_layers=1), False),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("layer", "drop"), VARIANTS.values(), ids=VARIANTS)
def test_loop_in_torch(layer, drop, dtype):
    """Values and all gradients of a padded batch, given the masks."""
    leaves, options, masks = draw(layer, dtype=dtype), {}, {}
    if drop:
        masks["recurrent_masks"] = masks_of(jaxrnn.recurrent_dropout_masks, *leaves[:2])
        options["recurrent_dropout"] = RATE
    if drop and layer.structure.num_layers > 1:
        masks["masks"] = masks_of(jaxrnn.dropout_masks, *leaves[:2])
        options["dropout"] = RATE

    @jax.jit
    def compute(leaves, lengths, masks):
        run = lambda leaves: layer(*leaves, lengths=lengths, **options, **masks)
        values, pullback = jax.vjp(run, leaves)
        weights = jax.grad(score)(values)
        return values, *pullback(weights), weights

    values, gradients, weights = compute(leaves, np.array(LENGTHS), masks)

    tensor = lambda tree: jax.tree.map(lambda a: torch.tensor(np.asarray(a)), tree)
    inputs = jax.tree.map(lambda a: a.requires_grad_(), tensor(leaves))
    wanted = loop(layer, *inputs, **tensor(masks))
    pairs = zip(flat(wanted), flat(tensor(weights)), strict=True)
    scalar = sum((a * b).sum() for a, b in pairs)
    torchs = torch.autograd.grad(scalar, flat(inputs))
    numpy = lambda tree: jax.tree.map(lambda a: a.detach().numpy(), tree)
    assert_close(values, numpy(wanted))
    assert_close(gradients, jax.tree.unflatten(jax.tree.structure(leaves), numpy(torchs)))


def masks_of(draw_masks, params, x):
    """Random masks of the shape that `draw_masks` gives them, by numpy, which compiles nothing."""
    shape = jax.eval_shape(lambda key: draw_masks(key, params, x, RATE), jax.random.key(0)).shape
    return np.random.default_rng(0).random(shape) >= RATE


def loop(layer, params, x, state, masks=None, recurrent_masks=None):
    """The layer as loops over layers, directions and steps, on torch's tensors."""
    s, finals = layer.structure, []
    for number in range(s.num_layers):
        outs = []
        for order in [range(TIME), range(TIME)[::-1]][: s.num_directions]:
            i, suffix = len(finals), s.suffixes[len(finals)]
            cell = {k.removesuffix(suffix): a for k, a in params.items() if k.endswith(suffix)}
            keep = 1.0 if recurrent_masks is None else recurrent_masks[i].to(x.dtype) / (1 - RATE)
            now, out = [a[i] for a in flat(state)], [None] * TIME
            for t in order:
                valid = torch.tensor([[t < length] for length in LENGTHS])
                new = step(layer, cell, x[t], now, now[0] * keep)
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
    params["weight_ih"] = np.asarray(params["weight_ih"]) + jnp.bfloat16(64)
    to = lambda tree, dtype: jax.tree.map(lambda a: np.asarray(a).astype(dtype), tree)
    cell = jax.jit(jaxrnn.lstm_cell)
    wanted = cell(to(params, float), to(x, float))
    assert_close(cell(params, x), to(wanted, jnp.bfloat16))
