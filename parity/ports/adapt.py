"""A user's torch module and JAX function as a `Pair`.

Parameters and inputs become flat dicts of arrays: parameters under torch's names, tied ones under
the first of their names, inputs under the names of torch's arguments. Torch runs on a fresh copy of
the module every time, so that the user's own stays as it is, whatever its `forward` does.
"""

import contextlib
import copy
import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.tree_util import keystr, tree_flatten_with_path
from torch import nn
from torch.func import functional_call

import jaxrnn

from ..backends.data import Data, floating
from ..backends.torch import array
from ..criterion import Arrays
from ..pair import Pair


Mapper = Callable[[dict[str, Any]], Any]
Arguments = Callable[[dict[str, Any]], tuple[Any, Any]]  # arrays by name → args and kwargs
# Takes the copy of the module that is about to run; what it returns gives the result afterwards.
Watch = Callable[[nn.Module], Callable[[], Any]]


class Parameters(NamedTuple):
    """Torch's parameters as arrays; further names of a tensor are `tied` to its first name.

    `names` are all names in torch's order, `buffers` the names of buffers.
    """

    arrays: Arrays
    tied: dict[str, str]
    names: list[str]
    buffers: list[str]


def parameters_of(torch_side: Callable[..., Any], params: Mapping[str, Any] | None) -> Parameters:
    """A module's own parameters, or `params` in their place."""
    if params is not None and any(isinstance(a, Mapping) for a in params.values()):
        raise TypeError("`params` must be flat, by torch's names, such as 'lstm.weight_ih_l0'")
    if not isinstance(torch_side, nn.Module):
        if params is None:
            raise TypeError("`params` is needed beside a torch function: its parameters by name")
        return Parameters({name: to_array(a) for name, a in params.items()}, {}, [*params], [])
    state = torch_side.state_dict(keep_vars=True)
    state = {name: a for name, a in state.items() if isinstance(a, torch.Tensor)}
    params = state if params is None else params
    _check_params(params, state)
    first = {id(a): name for name, a in reversed(state.items())}
    tied = {name: first[id(a)] for name, a in state.items() if first[id(a)] != name}
    arrays = {name: to_array(params[name]) for name in state if name not in tied}
    for name, of in tied.items():
        if not np.array_equal(to_array(params[name]), arrays[of]):
            raise ValueError(f"`params` has two values for `{of}`, which is also `{name}`")
    learned = dict(torch_side.named_parameters())
    return Parameters(arrays, tied, [*state], [name for name in arrays if name not in learned])


def _check_params(params: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> None:
    for name in [*state, *params]:
        if name not in state or name not in params:
            raise ValueError(f"`params` {_missing(name, params, state)}")
        if np.shape(params[name]) != state[name].shape:
            shapes = f"shape {tuple(np.shape(params[name]))}, wanted {tuple(state[name].shape)}"
            raise ValueError(f"`params` has `{name}` of {shapes}")


def pair_of(
    torch_side: Callable[..., Any],
    jax_function: Callable[..., Any],
    parameters: Parameters,
    inputs: Sequence[Any] | Mapping[str, Any],
    mapping: Mapper | Mapping[str, str | Mapper] | None,
    watch: Watch | None = None,
) -> Pair:
    """Both sides as functions of flat dicts of arrays; the outputs have no names yet."""
    arrays, arguments = _read(inputs, _argument_names(torch_side), parameters.arrays)
    title = f"{name_of(torch_side)} and {name_of(jax_function)}"
    run_torch = _torch_runner(torch_side, arguments, watch)
    run_jax = _jax_runner(jax_function, arguments)
    nest = _nest(mapping, parameters)
    data = Data(parameters.arrays, arrays, {}, {}, parameters.buffers, differentiate=False)
    return Pair(
        group="",
        name=title,
        torch=run_torch,
        jax=run_jax,
        outputs=(),
        draw=data.astype,
        call=lambda jax, params, **inputs: jax(nest(params), **inputs),
        idle=None,
    )


def nested(pair: Pair, params: Arrays) -> Any:
    """Torch's parameters as the JAX function has them."""
    return pair.call(lambda params: params, params)


def _torch_runner(
    torch_side: Callable[..., Any], arguments: Arguments, watch: Watch | None
) -> Callable[..., Any]:
    def run(params: Any, /, **flat: Any) -> Any:
        args, kwargs = arguments(flat)
        floats = [a for a in [*params.values(), *flat.values()] if a.is_floating_point()]
        dtype = floats[0].dtype if floats else torch.get_default_dtype()
        note = lambda error: f"raised by the torch side, run in {dtype}{_advice(error)}"
        with _noted(note), _default(dtype):
            if not isinstance(torch_side, nn.Module):
                return plain(torch_side(params, *args, **kwargs))
            module = _copy(torch_side).to(floats[0].device if floats else None, dtype)
            watched = watch and watch(module)
            result = functional_call(module, params, args, kwargs)
            return watched() if watched else plain(result)

    return run


def _jax_runner(jax_function: Callable[..., Any], arguments: Arguments) -> Callable[..., Any]:
    def run(params: Any, /, **flat: Any) -> Any:
        flat = {name: jnp.asarray(a) for name, a in flat.items()}
        args, kwargs = arguments(flat)
        note = lambda error: (
            "raised by the JAX function, which was called with\n"
            f"{_shapes(params, flat)}{_float32_advice(error, flat)}"
        )
        with _noted(note):
            return plain(jax_function(params, *args, **kwargs))

    return run


def name_of(side: Any) -> str:
    """The name of a function, or of an object's class."""
    side = getattr(side, "func", side)  # of functools.partial
    return getattr(side, "__name__", type(side).__name__)


def plain(tree: Any) -> Any:
    """The tree with a dict in the place of every other mapping."""
    mapping = lambda node: isinstance(node, Mapping) and type(node) is not dict
    return jax.tree.map(lambda n: plain(dict(n)) if mapping(n) else n, tree, is_leaf=mapping)


def flat(tree: Any) -> dict[str, Any]:
    """The leaves by their paths, such as `"1.0"`, in JAX's order."""
    return {keystr(path, simple=True, separator="."): leaf for path, leaf in _leaves(tree)}


def unused(pair: Pair, params: Arrays) -> list[str]:
    """The parameters of torch that no parameter of the JAX function depends on."""
    floats = {
        name: jax.ShapeDtypeStruct(params[name].shape, np.float32)
        for name in sorted(params)
        if floating(params[name])
    }
    rest = {name: a for name, a in params.items() if name not in floats}
    leaves = lambda floats: jax.tree.leaves(nested(pair, floats | rest))
    arrays = lambda floats: [a for a in leaves(floats) if isinstance(a, jax.Array)]
    jaxpr = jax.make_jaxpr(arrays)(floats).jaxpr
    if not jaxpr.outvars:  # opaque objects, such as modules of some frameworks
        return []
    used = {id(v) for v in [*jaxpr.outvars, *(v for eqn in jaxpr.eqns for v in eqn.invars)]}
    return [name for name, v in zip(floats, jaxpr.invars, strict=True) if id(v) not in used]


def _leaves(tree: Any) -> list[tuple[Any, Any]]:
    return tree_flatten_with_path(tree, is_leaf=_is_shape)[0]


def _read(
    inputs: Sequence[Any] | Mapping[str, Any], names: Sequence[str], params: Arrays
) -> tuple[Arrays, Arguments]:
    """The inputs' arrays by name, and a function that makes arguments of arrays of these names."""
    if not isinstance(inputs, list | tuple | Mapping) or _is_shape(inputs):
        raise TypeError(
            "`inputs` must be a list or dict of arrays or shapes, such as [(3, 7, 10)] for a "
            f"single one, got {inputs if _is_shape(inputs) else type(inputs).__name__}"
        )
    by_name = isinstance(inputs, Mapping)
    inputs = dict(inputs) if by_name else list(inputs)
    tree = jax.tree.structure(inputs, is_leaf=_is_shape)
    rng, arrays, leaves = np.random.default_rng(0), {}, {}
    for path, leaf in _leaves(inputs):
        top = str(path[0].key) if by_name else dict(enumerate(names)).get(path[0].idx)
        rest = keystr(path[1:], simple=True, separator=".")
        name = (top or f"input {path[0].idx}") + (rest and f".{rest}")
        name = f"input {name}" if name in params else name
        leaves[name] = leaf
        if _is_shape(leaf):
            arrays[name] = rng.standard_normal(leaf)
        elif isinstance(leaf, torch.Tensor | np.ndarray | jax.Array):
            arrays[name] = to_array(leaf)

    def arguments(arrays: dict[str, Any]) -> tuple[Any, Any]:
        whole = tree.unflatten([arrays.get(name, leaf) for name, leaf in leaves.items()])
        return ((), whole) if by_name else (tuple(whole), {})

    return arrays, arguments


def _is_shape(leaf: Any) -> bool:
    return type(leaf) is tuple and len(leaf) > 0 and all(type(size) is int for size in leaf)


def to_array(a: Any) -> np.ndarray:
    return array(a) if isinstance(a, torch.Tensor) else np.asarray(a)


def _argument_names(torch_side: Callable[..., Any]) -> list[str]:
    """The names of the inputs that it takes by position."""
    module = isinstance(torch_side, nn.Module)
    every = inspect.signature(torch_side.forward if module else torch_side).parameters.values()
    names = [p.name for p in every if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names if module else names[1:]


def _nest(mapping: Any, parameters: Parameters) -> Callable[[Arrays], Any]:
    """A function that makes the JAX function's parameters of torch's."""
    if not (mapping is None or callable(mapping) or isinstance(mapping, Mapping)):
        raise TypeError(f"`mapping` must be a function or a dict, got {type(mapping).__name__}")
    if isinstance(mapping, Mapping):
        for name in mapping.values():
            if isinstance(name, str) and name not in parameters.names:
                raise ValueError(f"`mapping` {_missing(name, (), parameters.names)}")

    def nest(arrays: Any) -> Any:
        every = {n: jnp.asarray(arrays[parameters.tied.get(n, n)]) for n in parameters.names}
        with _noted(lambda error: f"raised by `mapping`; torch's names are {', '.join(every)}"):
            if callable(mapping):
                return mapping(every)
            state = {
                path: every[entry] if isinstance(entry, str) else entry(every)
                for path, entry in (mapping or dict(zip(every, every, strict=True))).items()
            }
            return jaxrnn.from_state_dict(state)

    return nest


def _missing(name: str, params: Any, state: Any) -> str:
    """The words about a name that only one of both has."""
    if name in state and name not in params:
        return f"has no `{name}`, which the module has"
    near = difflib.get_close_matches(name, state, 1)
    meant = f": is `{near[0]}` meant?" if near else f", which has {', '.join(state)}"
    return f"names `{name}`, which torch does not have{meant}"


def _copy(module: nn.Module) -> nn.Module:
    """A copy, also of a module that keeps results of its last run, which torch does not copy."""
    kept = [v for m in module.modules() for v in vars(m).values() if isinstance(v, torch.Tensor)]
    return copy.deepcopy(module, {id(v): v.detach().clone() for v in kept if not v.is_leaf})


@contextlib.contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    """Makes `torch.zeros(…)` in a `forward` return the dtype of the inputs."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def _noted(note: Callable[[Exception], str]) -> Iterator[None]:
    """Adds a note to the user's own errors, which says which side raised them."""
    try:
        yield
    except Exception as error:
        error.add_note(note(error))
        raise


def _advice(error: Exception) -> str:
    """The likely cause, if it is known."""
    message = str(error)
    if "Long" in message:
        return "; shapes are drawn as floating numbers: for ids give an array of integers"
    if any(word in message for word in ("dtype", "Float", "Double")):
        return "; a tensor that is made on the way should take it from another: `x.new_zeros(…)`"
    return ""


def _float32_advice(error: Exception, inputs: Mapping[str, Any]) -> str:
    """The likely cause of an error about float32 in a function of float64 inputs."""
    if "float32" not in str(error) or not any(a.dtype == np.float64 for a in inputs.values()):
        return ""
    return (
        "\nfloat64 met a float32 in it, as flax modules and `jnp.zeros(…, jnp.float32)` have them: "
        "take the dtype from x, or compare with dtype='float32'"
    )


def _shapes(params: Any, inputs: Mapping[str, Any]) -> str:
    """A line for each parameter and input, for up to 24."""
    arrays = [(f"params{keystr(path)}", a) for path, a in _leaves(params)] + [*inputs.items()]
    shape = lambda a: f"{a.dtype}{list(a.shape)}" if hasattr(a, "shape") else type(a).__name__
    lines = [f"    {name}: {shape(a)}" for name, a in arrays]
    more = [f"    … and {len(lines) - 24} more"] if len(lines) > 24 else []
    return "\n".join(lines[:24] + more)
