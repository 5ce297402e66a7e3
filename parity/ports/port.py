"""Any torch module against the JAX function that ports it: `compare`, `assert_parity`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ..backends.data import DTYPES, Layout, floating
from ..backends.torch import array, exactly, tensors
from ..criterion import Arrays
from ..pair import Pair, Reference, run_jax, run_reference, still, torch_device
from ..report.port import Report, report_of
from . import pytest_state
from .adapt import Mapper, Parameters, flat, pair_of, parameters_of, to_array, unused


def compare(
    torch_side: Callable[..., Any],
    jax_function: Callable[..., Any],
    *,
    inputs: Sequence[Any] | Mapping[str, Any],
    params: Mapping[str, Any] | None = None,
    mapping: Mapper | Mapping[str, str | Mapper] | None = None,
    cotangents: Mapping[str, Any] | None = None,
    outputs: Sequence[str] | None = None,
    batch_first: bool | None = None,
    gradients: bool = True,
    dtype: str = "float64",
    device: str = "cpu",
) -> Report:
    """Whether a JAX function computes what a torch module does: outputs and every gradient.

    Both get the same weights and inputs. JAX may be as far from the truth, torch in float64, as
    torch itself, times a small factor, by the criterion of `parity.judge`: in every tensor and in
    each of its gates, layers or time steps. The module is left as it is.

    Args:
        torch_side: an `nn.Module` in the mode to compare, usually `eval()`; or a function
            `f(params, *inputs)` of a flat dict of tensors.
        jax_function: `f(params, *inputs)`, of any framework, jitted or not.
        inputs: a list, passed by position on both sides, or a dict, passed by keyword. In it, or in
            trees in it such as `(h0, c0)`, may be arrays of numpy, torch or JAX; shapes such as
            `(3, 7, 10)`, for which normal random numbers are drawn; other values, which are
            passed on unchanged. Floating arrays take the `dtype` and are differentiated by.
        params: torch's parameters by name, as in a `state_dict`; by default the module's own.
        mapping: how JAX's parameters are made of torch's. None: names nest on their dots, as by
            `jaxrnn.from_state_dict`. Or a function of the flat dict of arrays. Or a dict from paths
            (`"params.Dense_0.kernel"`) to torch's names or functions of the flat dict. JAX
            differentiates it, so that gradients are compared under torch's names.
        cotangents: the outputs' weights in the scalar that is differentiated, by the outputs'
            names, 0 for those left out; random ones by default.
        outputs: what the outputs are called, in the order of their tree's leaves.
        batch_first: whether three axes are (batch, time, features), or (time, batch, features);
            by default as the module's first recurrent layer has it, else True.
        gradients: whether to compare gradients.
        dtype: `"float64"`, `"float32"` or `"bfloat16"`.
        device: JAX's: `"cpu"`, `"gpu"` or `"tpu"`; torch's is CUDA for a GPU where it has one.

    Returns:
        A `Report`: it prints, `passed` says whether all agrees, and `to_html()` has pictures.

    Raises:
        ValueError: torch draws random numbers (dropout in train mode), or names or shapes do not
            fit one another.
        TypeError: an argument is not of its kind, or torch returns something other than tensors.
        Exception: what either side raises is passed on, with a note on what it was called with.
    """
    torch_side = checked(torch_side, jax_function)
    parameters = parameters_of(torch_side, params)
    pair = pair_of(torch_side, jax_function, parameters, inputs, mapping)
    expected = first_run(pair, torch_side, dtype, device)
    names = _output_names(torch_side, [*expected], outputs)
    expected = dict(zip(names, expected.values(), strict=True))
    pair = laid_out(pair, torch_side, expected, batch_first)
    weights = _cotangents(expected, cotangents)
    reference, results = run_both(pair, dtype, device, weights if gradients else None)
    facts = _facts(pair, parameters, torch_side, reference, results)
    return report_of(pair, reference, results, remarks(facts))


def assert_parity(torch_side: Any, jax_function: Any, **options: Any) -> Report:
    """Calls `compare`, and raises an AssertionError with the report unless it has passed."""
    __tracebackhide__ = True
    options = {"dtype": pytest_state.dtype, **options}
    report = compare(torch_side, jax_function, **options)
    pytest_state.record(report)
    if not report.passed:
        raise AssertionError(str(report))
    return report


def checked(torch_side: Any, jax_function: Any) -> Any:
    """The torch side, without the wrapper of `torch.compile`."""
    if isinstance(torch_side, type):
        raise TypeError(
            f"`torch_side` is the class {torch_side.__name__}: pass a module, made of it"
        )
    if not callable(torch_side) or isinstance(jax_function, nn.Module):
        kinds = f"{type(torch_side).__name__} and a {type(jax_function).__name__}"
        raise TypeError(f"the torch side comes first, and the JAX function second, got a {kinds}")
    if not callable(jax_function):
        raise TypeError(f"`jax_function` must be a function, got a {type(jax_function).__name__}")
    return getattr(torch_side, "_orig_mod", torch_side)


def first_run(pair: Pair, torch_side: Any, dtype: str, device: str) -> Arrays:
    """Torch's outputs by their paths; a second run must give the same."""
    if dtype not in DTYPES:
        raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)}, got {dtype!r}")
    data = pair.draw(dtype)

    def run() -> Arrays:
        params, inputs = tensors(data, torch_device(device))
        outputs = flat(pair.torch(params, **inputs))
        return {path: _output(path, leaf) for path, leaf in outputs.items()}

    with exactly(), torch.no_grad(), _random_state_kept(device):
        one, other = run(), run()
    if [*one] != [*other] or not all(_same(a, other[path]) for path, a in one.items()):
        rate = lambda m: getattr(m, "p", getattr(m, "dropout", 0))  # of nn.Dropout, of nn.LSTM
        drops = lambda m: m.training and isinstance(rate(m), float) and rate(m) > 0
        dropping = [name or "it" for name, m in _modules(torch_side).items() if drops(m)]
        raise ValueError(
            "torch gives two different results for the same input"
            + (f" (in train mode and dropping: {', '.join(dropping)})" if dropping else "")
            + ": call `.eval()` on the module, or take out what draws random numbers"
        )
    if not one:
        raise ValueError("torch returns no tensor, so that there is nothing to compare")
    return one


def laid_out(pair: Pair, torch_side: Any, outputs: Arrays, batch_first: bool | None) -> Pair:
    """Adds the outputs' names, and what is known of axes: where time is, and which are states."""
    layers = [m for m in _modules(torch_side).values() if isinstance(m, nn.RNNBase)]
    directions = {
        (m.num_layers * (1 + m.bidirectional), width): 1 + m.bidirectional
        for m in layers
        for width in (m.hidden_size, m.proj_size or m.hidden_size)
    }
    inputs = pair.draw("float64").inputs
    later = [*[*inputs.items()][1:], *[*outputs.items()][1:]]  # x and y come first
    cells = {name: (len(a), a.shape[2]) for name, a in later if a.ndim == 3}
    states = {name: directions[size] for name, size in cells.items() if size in directions}
    if batch_first is None:
        batch_first = layers[0].batch_first if layers else True
    return pair._replace(outputs=[*outputs], layout=Layout(batch_first, states=states))


def run_both(
    pair: Pair, dtype: str, device: str, cotangents: Arrays | None
) -> tuple[Reference, Arrays]:
    """Torch's results and JAX's, with gradients if there are cotangents."""
    data = pair.draw("float64")._replace(
        cotangents=cotangents or {}, differentiate=cotangents is not None
    )
    with _random_state_kept(device):
        reference = run_reference(pair._replace(draw=data.astype), dtype, device)
    return reference, run_jax(pair, reference)


def _facts(
    pair: Pair, parameters: Parameters, torch_side: Any, reference: Reference, results: Arrays
) -> dict[str, list[str]]:
    """Names for which a disagreement may have a known reason, or an agreement may say little."""
    wanted = {name: a.dtype for name, a in reference.runs[0].items()}
    return {
        "no gradient in torch, so that comparing it says nothing": [
            name.removeprefix("grad ") for name in still(pair, reference)
        ],
        "one number throughout, so that a mistake in it may not show; better at random": [
            name for name, a in parameters.arrays.items() if a.size > 1 and (a == a.flat[0]).all()
        ],
        "not used by `mapping`": unused(pair, parameters.arrays),
        "tied in torch, so that its gradients add up": [
            f"{name} = {first}" for name, first in parameters.tied.items()
        ],
        "in train mode, where it takes the batch's statistics": [
            name for name, m in _modules(torch_side).items() if m.training and _normalises(m)
        ],
        f"not {reference.dtype}, so that a dtype must stand in the JAX function": [
            name for name in pair.outputs if name in results and results[name].dtype != wanted[name]
        ],
    }


def remarks(facts: Mapping[str, Sequence[str]]) -> list[str]:
    """A sentence for each fact that holds for any name, with up to 8 names."""
    few = lambda names: ", ".join(names[:8]) + (f" and {len(names) - 8} more" * (len(names) > 8))
    return [f"{fact}: {few(names)}" for fact, names in facts.items() if names]


def _normalises(module: nn.Module) -> bool:
    return getattr(module, "running_var", None) is not None


def _modules(torch_side: Any) -> dict[str, nn.Module]:
    return dict(torch_side.named_modules()) if isinstance(torch_side, nn.Module) else {}


def _random_state_kept(device: str) -> Any:
    """Lets the user's random numbers go on as if nothing had been run."""
    cuda = torch_device(device) == "cuda"
    return torch.random.fork_rng(range(torch.cuda.device_count()) if cuda else [])


def _output(path: str, leaf: Any) -> np.ndarray:
    if not isinstance(leaf, torch.Tensor | bool | int | float):
        raise TypeError(
            f"torch's output{path and f' {path}'} is a {type(leaf).__name__}: let a function or "
            "module around it return tensors, or tuples, lists or dicts of them"
        )
    return array(torch.as_tensor(leaf))


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether both are equal, except for what a GPU changes by adding in another order."""
    a, b = (np.asarray(each, float) for each in (a, b))
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-3, atol=1e-3, equal_nan=True)


def _output_names(
    torch_side: Any, paths: Sequence[str], outputs: Sequence[str] | None
) -> Sequence[str]:
    """The user's names, torch's names for its layers, or the paths in the tree."""
    if outputs is not None:
        if len(outputs) != len(paths) or len({*outputs}) != len(outputs):
            raise ValueError(
                f"`outputs` must be {len(paths)} different names, one for each of torch's outputs "
                f"({', '.join(path or 'a tensor' for path in paths)}), got {list(outputs)}"
            )
        return outputs
    if isinstance(torch_side, nn.RNNBase):
        return ["y", "h_n", "c_n"][: len(paths)]
    return ["y"] if len(paths) == 1 else [f"output {path}" for path in paths]


def _cotangents(outputs: Arrays, cotangents: Mapping[str, Any] | None) -> Arrays:
    """The user's cotangents of the floating outputs, 0 for those left out; or random ones."""
    rng, smooth = np.random.default_rng(1), {n: a for n, a in outputs.items() if floating(a)}
    if cotangents is None:
        return {name: rng.standard_normal(a.shape) for name, a in smooth.items()}
    for name, a in cotangents.items():
        if name not in smooth or np.shape(a) != smooth[name].shape:
            shapes = ", ".join(f"{n} {list(a.shape)}" for n, a in smooth.items())
            raise ValueError(f"`cotangents` has {name} {list(np.shape(a))}, wanted among {shapes}")
    arrays = {name: to_array(a) for name, a in cotangents.items()}
    return {name: arrays.get(name, np.zeros(a.shape)) for name, a in smooth.items()}
