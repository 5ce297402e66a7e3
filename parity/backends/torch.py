"""Any torch function on a pair's numbers, differentiated by autograd; and a case's module."""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import ml_dtypes
import numpy as np
import torch
from torch.func import functional_call
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..cases import Case
from ..criterion import Arrays
from .data import Data, output_shapes, widened


Tensors = dict[str, torch.Tensor]
Run = Callable[..., Any]


def run(
    function: Callable[..., Any], outputs: Sequence[str], data: Data, device: str = "cpu"
) -> Arrays:
    """Outputs, gradients and, if there are tangents, the Hessian-vector product, by name.

    `function(params, **inputs)` returns a tree whose leaves, in order, are called `outputs`.
    """
    with exactly():
        params, inputs = tensors(data, device)
        call = lambda: _named(function(params, **inputs), outputs)
        leaves = {n: a for group in (params, inputs) for n, a in group.items() if a.requires_grad}
        results = call()
        arrays = {name: widened(array(a)) for name, a in results.items()}
        if not data.differentiate:
            return arrays
        cotangents = {name: tensor(a, device) for name, a in data.cotangents.items()}
        first = _grad(_dot(cotangents, results), leaves)
        arrays |= {f"grad {name}": array(g) for name, g in first.items()}
        if data.tangents:
            tangents = {name: tensor(a, device) for name, a in data.tangents.items()}
            second = _second_order(call, cotangents, tangents, leaves)
            arrays |= {f"hvp {name}": array(g) for name, g in second.items()}
        return arrays


def _named(tree: Any, outputs: Sequence[str]) -> Tensors:
    return dict(zip(outputs, jax.tree.leaves(tree), strict=True))


def _second_order(
    call: Callable[[], Tensors], cotangents: Tensors, tangents: Tensors, leaves: Tensors
) -> Tensors:
    # Neither oneDNN's LSTM (float32) nor cuDNN's can be differentiated twice.
    with torch.backends.mkldnn.flags(enabled=False), torch.backends.cudnn.flags(enabled=False):
        gradient = _grad(_dot(cotangents, call()), leaves, create_graph=True)
        return _grad(_dot(tangents, gradient), leaves)


def tensors(data: Data, device: str = "cpu") -> tuple[Any, Any]:
    """Parameters and inputs as tensors, of which those that vary require a gradient."""
    params, inputs = (
        {n: tensor(a, device).requires_grad_(data.varies(n, a)) for n, a in arrays.items()}
        for arrays in (data.params, data.inputs)
    )
    return params, inputs


class _Called(torch.nn.Module):
    """`function(module, …)` as a module, since functional_call knows nothing but `forward`."""

    def __init__(self, function: Callable[..., Any], module: torch.nn.Module) -> None:
        super().__init__()
        self.function, self.module = function, module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self.module, *args, **kwargs)


def call(function: Run, module: torch.nn.Module, params: Tensors, *args: Any, **inputs: Any) -> Any:
    """`function(module, *args, **inputs)` with these parameters in the module."""
    named = {f"module.{name}": a for name, a in params.items()}
    return functional_call(_Called(function, module), named, args, inputs, strict=True)


@contextlib.contextmanager
def exactly() -> Iterator[None]:
    """Without TF32, and without its warnings."""
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with warnings.catch_warnings(), exact:
        # We know that some kernels lack projections or TF32.
        warnings.filterwarnings("ignore", message=".*oneDNN")
        warnings.filterwarnings("ignore", message=".*single contiguous chunk")  # cuDNN copies them
        yield


def tensor(a: np.ndarray, device: str = "cpu") -> torch.Tensor:
    """A copy as a tensor; by way of float32 for bfloat16, which torch does not take from numpy."""
    if a.dtype.name == "bfloat16":
        return torch.tensor(a.astype(np.float32), device=device).bfloat16()
    return torch.tensor(a, device=device)


def array(t: torch.Tensor) -> np.ndarray:
    t = t.detach().cpu()
    if t.dtype == torch.bfloat16:
        return t.float().numpy().astype(ml_dtypes.bfloat16)
    return t.numpy()


def with_masks(
    module: Any,
    run: Run,
    x: torch.Tensor,
    state: Sequence[torch.Tensor] | None,
    masks: torch.Tensor,
    rate: float,
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """`module` layer by layer, with masks between that torch would draw by itself.

    `run(layer, x, state)` calls one layer, packing or not.
    """
    finals, directions = [], 2 if module.bidirectional else 1
    for k in range(module.num_layers):
        ends = (f"_l{k}", f"_l{k}_reverse")
        names = [name for name, _ in module.named_parameters() if name.endswith(ends)]
        own = {name.replace(f"_l{k}", "_l0"): getattr(module, name) for name in names}
        options = {"batch_first": module.batch_first, "bidirectional": module.bidirectional}
        options |= {"proj_size": module.proj_size} if module.proj_size else {}
        options |= {"nonlinearity": module.nonlinearity} if hasattr(module, "nonlinearity") else {}
        width = own["weight_ih_l0"].shape[1]
        single = type(module)(width, module.hidden_size, bias=module.bias, **options)
        layer = lambda *inputs, single=single, own=own: functional_call(single, own, inputs)
        cells = slice(k * directions, (k + 1) * directions)
        x, final = run(layer, x, state and [a[cells] for a in state])
        finals.append(final if isinstance(final, tuple) else (final,))
        if k < len(masks):
            x = x * masks[k] / (1 - rate)
    return x, tuple(torch.cat(parts) for parts in zip(*finals, strict=True))


def layer(case: Case) -> Callable[..., tuple[torch.Tensor, ...]]:
    """A case as a function of its parameters and inputs: the module of `torch.nn`."""

    def outputs(module: Any, x: Any, lengths: Any = None, masks: Any = None, **states: Any) -> Any:
        given = [*states.values()] if case.state else None
        if case.cell:
            return module(x, _state(given))
        run = functools.partial(_layer, case)
        if masks is not None and case.dropout < 1:
            return with_masks(module, run, x, given, masks, case.dropout)
        return run(module, x, given)

    def compute(params: Tensors, **inputs: Any) -> Any:
        return call(outputs, _module(case, inputs["x"]), params, **inputs)

    return compute


def run_case(case: Case, data: Data, device: str = "cpu") -> Arrays:
    """A case in torch: outputs and derivatives by name."""
    return run(layer(case), list(output_shapes(case)), data, device)


def _module(case: Case, x: torch.Tensor) -> torch.nn.Module:
    s = case.structure
    options: dict[str, Any] = {"bias": s.bias, "dtype": x.dtype, "device": x.device}
    if s.kind.startswith("rnn"):
        options["nonlinearity"] = case.nonlinearity
    if s.proj_size:
        options["proj_size"] = s.proj_size
    if not case.cell:
        options |= {"batch_first": case.batch_first, "bidirectional": s.bidirectional}
        options |= {"num_layers": s.num_layers, "dropout": case.dropout}
    return getattr(torch.nn, s.torch_name)(s.input_size, s.hidden_size, **options)


def _layer(
    case: Case, module: Run, x: torch.Tensor, given: list[torch.Tensor] | None
) -> tuple[torch.Tensor, Any]:
    """The module, or one layer, on a packed sequence where there are lengths, but no empty one."""
    if case.lengths is None:
        return module(x, _state(given))
    lengths = torch.tensor(case.lengths)
    keep = lengths.nonzero()[:, 0].to(x.device)
    batch_axis = 0 if case.batch_first else 1
    s = case.structure
    y = x.new_zeros((*x.shape[:-1], s.num_directions * s.output_size))
    if given is None:
        cells = s.num_directions * getattr(module, "num_layers", 1)
        sizes = [s.output_size, s.hidden_size][: 2 if s.kind == "lstm" else 1]
        batch = [] if case.batch is None else [len(lengths)]
        given = [x.new_zeros(cells, *batch, size) for size in sizes]
    if len(keep) == 0:
        return y, tuple(given)
    if case.batch is None:
        y, state = module(x[: case.lengths[0]], _state(given))
        return torch.nn.functional.pad(y, (0, 0, 0, case.time - len(y))), state
    packed = pack_padded_sequence(
        x.index_select(batch_axis, keep),
        lengths[lengths > 0],
        batch_first=case.batch_first,
        enforce_sorted=False,
    )
    out, state = module(packed, _state([a.index_select(1, keep) for a in given]))
    out, _ = pad_packed_sequence(out, batch_first=case.batch_first, total_length=case.time)
    state = state if isinstance(state, tuple) else (state,)
    final = tuple(a.index_copy(1, keep, b) for a, b in zip(given, state, strict=True))
    return y.index_copy(batch_axis, keep, out), final


def _state(given: list[torch.Tensor] | None) -> Any:
    """In the form that torch wants: None, a tensor, or a pair."""
    return given[0] if given and len(given) == 1 else given and tuple(given)


def _dot(a: Tensors, b: Tensors) -> torch.Tensor:
    return sum(((a[name] * b[name]).sum() for name in a), torch.zeros(()))


def _grad(scalar: torch.Tensor, leaves: Tensors, create_graph: bool = False) -> Tensors:
    """Gradients by name; zeros where nothing depends on any leaf, as in empty sequences."""
    if not scalar.requires_grad:
        return {name: torch.zeros_like(a) for name, a in leaves.items()}
    grads = torch.autograd.grad(
        scalar, list(leaves.values()), create_graph=create_graph, materialize_grads=True
    )
    return dict(zip(leaves, grads, strict=True))
