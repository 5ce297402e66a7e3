"""A case in torch: the module of `torch.nn` with the case's weights, differentiated by autograd."""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.func import functional_call
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..cases import Case
from ..criterion import Arrays
from .data import Data


Tensors = dict[str, torch.Tensor]
Run = Callable[..., tuple[Any, Any]]


def run(case: Case, data: Data, device: str = "cpu", gradients: bool = True) -> Arrays:
    """Outputs, gradients and, if the case has it, the Hessian-vector product, by name."""
    with exactly():
        return _run(case, data, device, gradients)


@contextlib.contextmanager
def exactly() -> Iterator[None]:
    """Without TF32, and without its warnings."""
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with warnings.catch_warnings(), exact:
        # That some of its kernels do not know projections or TF32 is news to nobody here.
        warnings.filterwarnings("ignore", message=".*oneDNN")
        yield


def _run(case: Case, data: Data, device: str, gradients: bool) -> Arrays:
    module, leaves = _build(case, data, device)
    to = lambda arrays: {name: tensor(a, device) for name, a in arrays.items()}
    cotangents, tangents = to(data.cotangents), to(data.tangents)
    masks = None if data.masks is None else torch.tensor(data.masks, device=device)
    result = _outputs(case, module, leaves, masks)
    if gradients:
        first = _grad(_dot(cotangents, result), leaves)
        result |= {f"grad {name}": g for name, g in first.items()}
    if gradients and case.second_order:
        # Neither oneDNN's LSTM (float32) nor cuDNN's can be differentiated twice.
        with torch.backends.mkldnn.flags(enabled=False), torch.backends.cudnn.flags(enabled=False):
            scalar = _dot(cotangents, _outputs(case, module, leaves, masks))
            second = _grad(_dot(tangents, _grad(scalar, leaves, create_graph=True)), leaves)
        result |= {f"hvp {name}": g for name, g in second.items()}
    return {name: array(t) for name, t in result.items()}


def tensor(a: np.ndarray, device: str = "cpu") -> torch.Tensor:
    """A copy as a tensor; by way of float32 for bfloat16, which torch does not take from numpy."""
    if a.dtype.name == "bfloat16":
        return torch.tensor(a.astype(np.float32), device=device).bfloat16()
    return torch.tensor(a, device=device)


def array(t: torch.Tensor) -> np.ndarray:
    t = t.detach().cpu()
    if t.dtype == torch.bfloat16:
        import ml_dtypes

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


def _build(case: Case, data: Data, device: str) -> tuple[torch.nn.Module, Tensors]:
    """The module, and everything that is differentiated by."""
    s = case.structure
    leaves = {name: tensor(a, device).requires_grad_() for name, a in data.leaves.items()}
    options: dict[str, Any] = {"bias": s.bias, "dtype": leaves["x"].dtype, "device": device}
    if s.kind.startswith("rnn"):
        options["nonlinearity"] = case.nonlinearity
    if s.proj_size:
        options["proj_size"] = s.proj_size
    if not case.cell:
        options |= {"batch_first": case.batch_first, "bidirectional": s.bidirectional}
        options |= {"num_layers": s.num_layers, "dropout": case.dropout}
    module = getattr(torch.nn, s.torch_name)(s.input_size, s.hidden_size, **options)
    module.load_state_dict({name: leaves[name] for name in module.state_dict()})
    return module, leaves | dict(module.named_parameters())


def _outputs(
    case: Case, module: torch.nn.Module, leaves: Tensors, masks: torch.Tensor | None
) -> Tensors:
    x = leaves["x"]
    names = ["h", "c"] if case.structure.kind.startswith("lstm") else ["h"]
    given = [leaves[f"{name}_0"] for name in names] if case.state else None
    run = functools.partial(_layer, case)
    if case.cell:
        y, state = None, module(x, _state(given))
    elif masks is not None and case.dropout < 1:
        y, state = with_masks(module, run, x, given, masks, case.dropout)
    else:
        y, state = run(module, x, given)
    state = [state] if isinstance(state, torch.Tensor) else state
    outputs = dict(zip([f"{name}_n" for name in names], state, strict=True))
    return outputs if y is None else {"y": y, **outputs}


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
    if not scalar.requires_grad:  # as where there are but empty sequences
        return {name: torch.zeros_like(a) for name, a in leaves.items()}
    grads = torch.autograd.grad(
        scalar, list(leaves.values()), create_graph=create_graph, materialize_grads=True
    )
    return dict(zip(leaves, grads, strict=True))
