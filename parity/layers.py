"""A case of the table as a `Pair`: `torch.nn` against jaxrnn, the truth in numpy."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .backends import jax as jax_backend
from .backends import numpy as numpy_backend
from .backends import torch as torch_backend
from .backends.data import DTYPES, Data, draw, layout, output_shapes
from .backends.jax import Program
from .cases import Case
from .pair import Pair, Result, torch_device, verify_pair


SATURATED = 4.0  # inputs of tanh beyond this: 1 - tanh² is below 0.0014, and an ulp there matters


def pair_of(
    case: Case,
    params: Mapping[str, np.ndarray] | None = None,
    x: np.ndarray | None = None,
    apply: Callable[..., Any] | None = None,
) -> Pair:
    """A case as a pair; parameters and input are random by default.

    `apply` takes the place of `jaxrnn.lstm` (or whichever function the case is about).
    """
    located = apply is None and not case.cell
    return Pair(
        group=case.group,
        name=case.name,
        torch=torch_backend.layer(case),
        jax=apply or jax_backend.function(case),
        outputs=list(output_shapes(case)),
        draw=lambda dtype: draw(case, dtype, params, x),
        call=functools.partial(jax_backend.call, case),
        dtypes=case.dtypes,
        layout=layout(case),
        truth=functools.partial(numpy_backend.run, case),
        slack=functools.partial(saturation_slack, case),
        locate=functools.partial(first_wrong_state, case) if located else None,
        x64=True,  # so that a float64 that leaks into float32 shows
        idle=None,
        case=case,
    )


def verify(
    case: Case,
    dtype: str = "float64",
    *,
    params: Mapping[str, np.ndarray] | None = None,
    x: np.ndarray | None = None,
    apply: Callable[..., Any] | None = None,
    program: Program | None = None,
    device: str = "cpu",
) -> Result:
    """Whether jaxrnn computes what torch.nn computes on `case`, by the criterion of `judge`.

    Args:
        case: the configuration.
        dtype: `"float64"`, `"float32"` or `"bfloat16"`.
        params: torch's parameters as arrays; random ones by default.
        x: the input; random by default.
        apply: what to judge in place of `jaxrnn.rnn`, `lstm`, `gru` or a cell.
        program: `Pair.program()` of this case and `apply`, to be used for several cases.
        device: JAX's: `"cpu"`, `"gpu"` or `"tpu"`; torch's is CUDA for a GPU where it has one.
    """
    return verify_pair(pair_of(case, params, x, apply), dtype, device, program)


def saturation_slack(case: Case, data: Data, dtype: str, device: str) -> float:
    """The factor on the allowance where gates are saturated, else 1."""
    saturated = numpy_backend.saturation(case, data) > SATURATED
    return tanh_factor(dtype, device) if saturated else 1.0


@functools.cache
def tanh_factor(dtype: str, device: str) -> float:
    """How many times further from the truth XLA's tanh is than torch's, as measured here.

    Where units are saturated, derivatives are differences like 1 - tanh², in which the last bits of
    tanh are all there is; no moving of inputs by an ulp shows how far those bits may be off.
    """
    x = np.linspace(-8, 8, 20001).astype(DTYPES[dtype])
    true = np.tanh(x.astype(np.longdouble))
    ulp = np.spacing(np.abs(true).astype(DTYPES[dtype])).astype(np.longdouble)
    error = lambda y: float(np.max(np.abs(y.astype(np.longdouble) - true) / ulp))
    with jax.enable_x64(True), jax.default_device(jax.devices(device)[0]):
        ours = np.asarray(jax.jit(jnp.tanh)(x))
    torchs = torch_backend.array(torch_backend.tensor(x, torch_device(device)).tanh())
    return max(1.0, error(ours) / error(torchs))


def first_wrong_state(
    case: Case, data: Data, eps: float, apply: Callable[..., Any] | None = None
) -> str:
    """Where the state first leaves the truth: layer by layer, each in the order of its own time.

    This locates and does not judge: it calls a state wrong that is off by more than 1000 eps, or by
    a tenth.
    """
    s, bound = case.structure, min(1000 * eps, 0.1)
    states = jax_backend.states(case, data, apply)
    truth = numpy_backend.states(case, data)
    for i in range(len(s.suffixes)):
        backward = i % s.num_directions
        for t in reversed(range(case.time)) if backward else range(case.time):
            for name, a, b in zip("hc", states, truth, strict=False):
                error = np.abs(a[t, i].astype(np.longdouble) - b[t, i]) / (1 + np.abs(b[t, i]))
                error = np.where(np.isnan(error), np.inf, error)
                error[np.isnan(b[t, i])] = 0  # beyond a sequence's end
                if error.max(initial=0) > bound:
                    row, unit = np.unravel_index(int(error.argmax()), error.shape)
                    return (
                        f"first wrong state: {name} of layer {i // s.num_directions}, "
                        f"{'backward' if backward else 'forward'}, step {t}, batch row {row}, "
                        f"unit {unit}: off by {error[row, unit]:.1e}"
                    )
    return f"no state on the way is off by more than {bound:.1e}"
