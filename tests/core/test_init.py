"""Law: fresh parameters have torch's names, shapes, dtypes and distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxrnn


KEY = jax.random.key(0)
LAYERS = [
    ("rnn", {}),
    ("rnn", {"num_layers": 2, "bidirectional": True}),
    ("gru", {"bias": False}),
    ("gru", {"num_layers": 3, "bias": False, "bidirectional": True}),
    ("gru", {"num_layers": 2}),
    ("lstm", {}),
    ("lstm", {"num_layers": 2, "bidirectional": True, "proj_size": 2}),
    ("lstm", {"num_layers": 3, "bias": False, "proj_size": 3}),
    ("rnn_cell", {}),
    ("rnn_cell", {"bias": False}),
    ("gru_cell", {}),
    ("lstm_cell", {}),
    ("lstm_cell", {"bias": False}),
]
CLASSES = {"rnn": "RNN", "gru": "GRU", "lstm": "LSTM"}
CLASSES |= {f"{kind}_cell": f"{name}Cell" for kind, name in CLASSES.items()}


def init(kind, *sizes, key=KEY, **options):
    return getattr(jaxrnn, f"init_{kind}")(key, *sizes, **options)


@pytest.mark.parametrize(
    ("kind", "options", "dtype"),
    [(*layer, "float64") for layer in LAYERS] + [(*LAYERS[6], "float32"), (*LAYERS[6], "bfloat16")],
)
def test_names_shapes_and_dtypes(kind, options, dtype):
    module = getattr(torch.nn, CLASSES[kind])(5, 4, **options, dtype=getattr(torch, dtype))
    found = []  # while tracing, since to draw them takes a program for each shape
    of = lambda params: [(name, tuple(a.shape), str(a.dtype)) for name, a in params.items()]
    jax.eval_shape(lambda: found.extend(of(init(kind, 5, 4, **options, dtype=dtype))))
    wanted = [(*each[:2], dtype) for each in of(module.state_dict())]
    assert found == wanted


@pytest.mark.parametrize("kind", CLASSES)
def test_default_dtype_is_that_of_jax(kind):
    dtypes = lambda: {value.dtype for value in jax.eval_shape(lambda: init(kind, 2, 3)).values()}
    assert dtypes() == {np.dtype("float64")}
    with jax.enable_x64(False):
        assert dtypes() == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("kind", "options"),
    [("rnn", {}), ("gru", {"num_layers": 2}), ("lstm", {"bidirectional": True, "proj_size": 2})]
    + [(f"{kind}_cell", {}) for kind in ("rnn", "gru", "lstm")],
)
def test_distribution_is_torchs(kind, options):
    """Every parameter alone is U(-b, b), b = 1/√hidden_size even under a projection.

    Kolmogorov's distance from n samples to their distribution function passes 1.95/√n once in a
    thousand times; between n and n samples √2 as much, here for jaxrnn against torch. The key and
    the seed are fixed, so it either does or does not.
    """
    torch.manual_seed(0)
    input_size, hidden_size = 300, 64
    bound = hidden_size**-0.5
    ours = init(kind, input_size, hidden_size, **options)
    theirs = getattr(torch.nn, CLASSES[kind])(input_size, hidden_size, **options).state_dict()
    for name, value in ours.items():
        values, n = np.sort(np.ravel(value)), value.size
        assert -bound <= values[0] <= values[-1] < bound
        uniform = (values / bound + 1) / 2
        ranks = np.arange(n)
        assert max(np.max(uniform - ranks / n), np.max((ranks + 1) / n - uniform)) < 1.95 / n**0.5
        torchs = np.sort(theirs[name].numpy().ravel())
        ours_below = np.searchsorted(values, torchs, side="right") / n
        assert np.max(np.abs(ours_below - (ranks + 1) / n)) < 1.95 * (2 / n) ** 0.5


def test_every_parameter_and_key_draws_its_own():
    make = lambda key, **own: init("lstm", 4, 4, num_layers=3, bidirectional=True, key=key, **own)
    params, again, other = make(KEY), make(KEY), make(jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, params, again)
    values = np.concatenate([np.ravel(v) for v in [*params.values(), *other.values()]])
    assert len(np.unique(values)) == len(values)
    uniform = jax.nn.initializers.uniform()
    mixed = make(KEY, weight_hh_init=uniform, bias_init=uniform)
    values = np.concatenate([np.ravel(v) for v in mixed.values()])
    assert len(np.unique(values)) == len(values)


def test_raw_keys_work():
    raw = jax.random.key_data(KEY)
    ours = init("gru", 2, 3, key=raw)
    jax.tree.map(np.testing.assert_array_equal, ours, init("gru", 2, 3))


def test_vmap_over_keys_is_a_stack_of_inits():
    keys = jax.random.split(KEY, 3)
    make = lambda key: init("lstm", 3, 4, num_layers=2, forget_bias=1.0, key=key)
    wanted = jax.tree.map(lambda *values: jnp.stack(values), *map(make, keys))
    jax.tree.map(np.testing.assert_array_equal, jax.vmap(make)(keys), wanted)


def test_glorot_is_torchs_xavier_on_the_stacked_matrix():
    """Fan-out is 4·hidden_size: bound √(6 / 5H) for a square `weight_hh`, not √(3 / H)."""
    glorot = jax.nn.initializers.glorot_uniform()
    params = init("lstm", 100, 50, weight_ih_init=glorot, weight_hh_init=glorot)
    module = torch.nn.LSTM(100, 50)
    torch.manual_seed(0)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        weight = torch.nn.init.xavier_uniform_(getattr(module, name)).detach().numpy()
        # The largest of n values is below (1 - 10/n) · bound once in e¹⁰ times.
        reach, theirs = np.max(np.abs(params[name])), np.max(np.abs(weight))
        assert abs(reach / theirs - 1) < 10 / weight.size
        assert abs(reach / np.sqrt(6 / sum(weight.shape)) - 1) < 10 / weight.size
    assert np.max(np.abs(params["weight_hh_l0"])) <= np.sqrt(6 / (5 * 50))
    assert np.max(np.abs(params["bias_ih_l0"])) <= 50**-0.5


@pytest.mark.parametrize("kind", CLASSES)
def test_orthogonal_has_orthonormal_columns(kind):
    orthogonal = jax.nn.initializers.orthogonal()
    params = init(kind, 3, 8, weight_hh_init=orthogonal)
    (weight,) = (value for name, value in params.items() if name.startswith("weight_hh"))
    # Rounding of at most eight reflections, each good to a few units in the last place.
    np.testing.assert_allclose(weight.T @ weight, np.eye(8), rtol=0, atol=8 * 8 * 2.3e-16)
    (other,) = (value for name, value in params.items() if name.startswith("weight_ih"))
    assert np.max(np.abs(other)) <= 8**-0.5


@pytest.mark.parametrize(("kind", "bias"), [("lstm", True), ("lstm", False), ("lstm_cell", True)])
def test_layer_norm(kind, bias):
    """Gains are 1, biases 0 and those of the norms; weights are drawn as ever."""
    params = init(kind, 3, 4, layer_norm=True, bias=bias)
    found = jaxrnn.structure(params)
    assert (found.kind, found.bias, found.layer_norm) == (kind, bias, True)
    plain = dict(init(kind, 300, 4, layer_norm=True, bias=bias))
    for name, value in plain.items():
        if "_ln_" in name:
            np.testing.assert_array_equal(value, float(name.startswith("weight")))
            assert value.shape == ((4,) if "_ln_c" in name else (16,))
        else:
            assert name.startswith("weight")
            assert 0.4 < np.max(np.abs(value)) < 0.5


def test_each_initialiser_has_its_own_parameters():
    fill = lambda value: jax.nn.initializers.constant(value)
    options = {"num_layers": 2, "bidirectional": True, "proj_size": 2}
    inits = {"weight_ih_init": fill(1), "weight_hh_init": fill(2), "bias_init": fill(3)}
    params = init("lstm", 3, 4, **options, **inits)
    wanted = {"weight_ih": 1, "weight_hh": 2, "weight_hr": 2, "bias_ih": 3, "bias_hh": 3}
    for name, value in params.items():
        np.testing.assert_array_equal(value, wanted[name.split("_l")[0]])


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("lstm", {"num_layers": 2, "bidirectional": True}),
        ("lstm_cell", {}),
        ("lstm", {"num_layers": 2, "layer_norm": True}),
    ],
)
@pytest.mark.parametrize("value", [1.0, 0.0, -2.5])
def test_forget_bias_is_the_sum_of_both(kind, options, value):
    """And nothing else changes: i, g and o keep what they were drawn."""
    params = init(kind, 3, 4, **options, forget_bias=value)
    plain = init(kind, 3, 4, **options)
    for name in params:
        ours, drawn = params[name], plain[name]
        if name.startswith(("bias_ih", "bias_ln_ih")):
            twin = params[name.replace("_ih", "_hh")]
            np.testing.assert_array_equal((ours + twin)[4:8], value)
        if name.startswith("bias") and len(ours) > 4:
            ours, drawn = np.delete(ours, np.s_[4:8]), np.delete(drawn, np.s_[4:8])
        np.testing.assert_array_equal(ours, drawn)
