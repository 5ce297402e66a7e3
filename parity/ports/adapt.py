"""A user's torch module and JAX function as a `Pair`.

Parameters and inputs become flat dicts of arrays: parameters under torch's names, tied ones under
the first of theirs, inputs under the names of torch's arguments. Torch runs on a fresh copy of the
module every time, so that the user's own stays as it is, whatever its `forward` does.
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


class Parameters(NamedTuple):
    """Torch's, as arrays; other names of the same tensor are `tied` to the first.

    `every` are all names in torch's order, `constant` those of buffers.
    """

    own: Arrays
    tied: dict[str, str]
    every: list[str]
    constant: list[str]


def parameters_of(torch_side: Callable[..., Any], given: Mapping[str, Any] | None) -> Parameters:
    """A module's own, or those that are given in their place."""
    if given is not None and any(isinstance(a, Mapping) for a in given.values()):
        raise TypeError("`params` must be flat, by torch's names, such as 'lstm.weight_ih_l0'")
    if not isinstance(torch_side, nn.Module):
        if given is None:
            raise TypeError("`params` is needed beside a torch function: its parameters by name")
        return Parameters({name: to_array(a) for name, a in given.items()}, {}, [*given], [])
    state = torch_side.state_dict(keep_vars=True)
    state = {name: a for name, a in state.items() if isinstance(a, torch.Tensor)}
    given = state if given is None else given
    for name in [*state, *given]:
        if name not in state or name not in given:
            raise ValueError(f"`params` {_missing(name, given, state)}")
        if np.shape(given[name]) != state[name].shape:
            shapes = f"shape {tuple(np.shape(given[name]))}, wanted {tuple(state[name].shape)}"
            raise ValueError(f"`params` has `{name}` of {shapes}")
    first = {id(a): name for name, a in reversed(state.items())}
    tied = {name: first[id(a)] for name, a in state.items() if first[id(a)] != name}
    own = {name: to_array(given[name]) for name in state if name not in tied}
    for name, of in tied.items():
        if not np.array_equal(to_array(given[name]), own[of]):
            raise ValueError(f"`params` has two values for `{of}`, which is also `{name}`")
    learned = dict(torch_side.named_parameters())
    return Parameters(own, tied, [*state], [name for name in own if name not in learned])


def pair_of(
    torch_side: Callable[..., Any],
    jax_function: Callable[..., Any],
    parameters: Parameters,
    inputs: Sequence[Any] | Mapping[str, Any],
    mapping: Mapper | Mapping[str, str | Mapper] | None,
    watch: Callable[[nn.Module], Callable[[], Any]] | None = None,
) -> Pair:
    """Both sides as functions of flat dicts of arrays; what the outputs are called is still open.

    `watch` is given the copy of the module that is about to run, and returns a function that gives,
    when it has run, what stands for its result.
    """
    arrays, arguments = _read(inputs, _argument_names(torch_side), parameters.own)

    def theirs(params: Any, /, **flat: Any) -> Any:
        args, kwargs = arguments(flat)
        some = [a for a in [*params.values(), *flat.values()] if a.is_floating_point()]
        dtype = some[0].dtype if some else torch.get_default_dtype()
        with _noted(lambda error: f"raised by the torch side, run in {dtype}{_advice(error)}"):
            if not isinstance(torch_side, nn.Module):
                with _default(dtype):
                    return plain(torch_side(params, *args, **kwargs))
            module = _copy(torch_side).to(some[0].device if some else None, dtype)
            seen = watch and watch(module)
            with _default(dtype):
                result = functional_call(module, params, args, kwargs)
            return seen() if seen else plain(result)

    def ours(params: Any, /, **flat: Any) -> Any:
        flat = {name: jnp.asarray(a) for name, a in flat.items()}
        args, kwargs = arguments(flat)
        told = lambda error: (
            "raised by the JAX function, which was called with\n"
            f"{_told(params, flat)}{_own_float32(error, flat)}"
        )
        with _noted(told):
            return plain(jax_function(params, *args, **kwargs))

    title = f"{name_of(torch_side)} and {name_of(jax_function)}"
    nest = _nest(mapping, parameters)
    data = Data(parameters.own, arrays, {}, {}, parameters.constant, differentiate=False)
    return Pair(
        group="",
        name=title,
        torch=theirs,
        jax=ours,
        outputs=(),
        draw=data.astype,
        call=lambda jax, params, **inputs: jax(nest(params), **inputs),
        idle=None,
    )


def nested(pair: Pair, params: Arrays) -> Any:
    """Torch's parameters as the JAX function has them."""
    return pair.call(lambda params: params, params)


def name_of(side: Any) -> str:
    """A function's own name, or that of the class."""
    side = getattr(side, "func", side)  # of functools.partial
    return getattr(side, "__name__", type(side).__name__)


def plain(tree: Any) -> Any:
    """The tree, in which whatever is like a dict is one."""
    like = lambda node: isinstance(node, Mapping) and type(node) is not dict
    return jax.tree.map(lambda n: plain(dict(n)) if like(n) else n, tree, is_leaf=like)


def flat(tree: Any) -> dict[str, Any]:
    """The leaves by their paths, such as `"1.0"`, in the order in which JAX has them."""
    return {keystr(path, simple=True, separator="."): leaf for path, leaf in _leaves(tree)}


def unused(pair: Pair, own: Arrays) -> list[str]:
    """Parameters of which nothing reaches the JAX function's."""
    names = sorted(name for name, a in own.items() if floating(a))
    abstract = {name: jax.ShapeDtypeStruct(own[name].shape, np.float32) for name in names}
    rest = {name: a for name, a in own.items() if name not in names}
    arrays = lambda abstract: [
        a for a in jax.tree.leaves(nested(pair, abstract | rest)) if isinstance(a, jax.Array)
    ]
    jaxpr = jax.make_jaxpr(arrays)(abstract).jaxpr
    used = {id(v) for v in [*jaxpr.outvars, *(v for eqn in jaxpr.eqns for v in eqn.invars)]}
    unknown = not jaxpr.outvars  # opaque objects, such as modules of some frameworks
    return (
        []
        if unknown
        else [n for n, v in zip(names, jaxpr.invars, strict=True) if id(v) not in used]
    )


def _leaves(tree: Any) -> list[tuple[Any, Any]]:
    return tree_flatten_with_path(tree, is_leaf=_is_shape)[0]


def _read(
    inputs: Sequence[Any] | Mapping[str, Any], names: Sequence[str], params: Arrays
) -> tuple[Arrays, Callable[[dict[str, Any]], tuple[Any, Any]]]:
    """The inputs' arrays by name, and what makes arguments of others under these names."""
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

    def arguments(given: dict[str, Any]) -> tuple[Any, Any]:
        whole = tree.unflatten([given.get(name, leaf) for name, leaf in leaves.items()])
        return ((), whole) if by_name else (tuple(whole), {})

    return arrays, arguments


def _is_shape(leaf: Any) -> bool:
    return type(leaf) is tuple and len(leaf) > 0 and all(type(size) is int for size in leaf)


def to_array(a: Any) -> np.ndarray:
    return array(a) if isinstance(a, torch.Tensor) else np.asarray(a)


def _argument_names(torch_side: Callable[..., Any]) -> list[str]:
    """Of what it takes by position, parameters apart."""
    module = isinstance(torch_side, nn.Module)
    found = inspect.signature(torch_side.forward if module else torch_side).parameters.values()
    names = [p.name for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names if module else names[1:]


def _nest(mapping: Any, parameters: Parameters) -> Callable[[Arrays], Any]:
    """From torch's own parameters to those of the JAX function."""
    if not (mapping is None or callable(mapping) or isinstance(mapping, Mapping)):
        raise TypeError(f"`mapping` must be a function or a dict, got {type(mapping).__name__}")
    if isinstance(mapping, Mapping):
        for name in mapping.values():
            if isinstance(name, str) and name not in parameters.every:
                raise ValueError(f"`mapping` {_missing(name, (), parameters.every)}")

    def nest(own: Any) -> Any:
        every = {n: jnp.asarray(own[parameters.tied.get(n, n)]) for n in parameters.every}
        with _noted(lambda error: f"raised by `mapping`; torch's names are {', '.join(every)}"):
            if callable(mapping):
                return mapping(every)
            made = {
                path: every[entry] if isinstance(entry, str) else entry(every)
                for path, entry in (mapping or dict(zip(every, every, strict=True))).items()
            }
            return jaxrnn.from_state_dict(made)

    return nest


def _missing(name: str, given: Any, torchs: Any) -> str:
    """What is wrong with a name that not both have."""
    if name in torchs and name not in given:
        return f"has no `{name}`, which the module has"
    near = difflib.get_close_matches(name, torchs, 1)
    meant = f": is `{near[0]}` meant?" if near else f", which has {', '.join(torchs)}"
    return f"names `{name}`, which torch does not have{meant}"


def _copy(module: nn.Module) -> nn.Module:
    """Also of one that keeps results of its last run, which torch would refuse to copy."""
    kept = [v for m in module.modules() for v in vars(m).values() if isinstance(v, torch.Tensor)]
    return copy.deepcopy(module, {id(v): v.detach().clone() for v in kept if not v.is_leaf})


@contextlib.contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    """So that `torch.zeros(…)` in a `forward` makes what the inputs are."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def _noted(note: Callable[[Exception], str]) -> Iterator[None]:
    """The user's own errors are passed on, with a note on whose they are."""
    try:
        yield
    except Exception as error:
        error.add_note(note(error))
        raise


def _advice(error: Exception) -> str:
    """The likely cause, if it is one that this package has to do with."""
    said = str(error)
    if "Long" in said:
        return "; shapes are drawn as floating numbers: for ids give an array of integers"
    if any(word in said for word in ("dtype", "Float", "Double")):
        return "; a tensor that is made on the way should take it from another: `x.new_zeros(…)`"
    return ""


def _own_float32(error: Exception, inputs: Mapping[str, Any]) -> str:
    """The likely cause where all that it was called with is float64."""
    if "float32" not in str(error) or not any(a.dtype == np.float64 for a in inputs.values()):
        return ""
    return (
        "\nfloat64 met a float32 in it, as flax modules and `jnp.zeros(…, jnp.float32)` have them: "
        "take the dtype from x, or compare with dtype='float32'"
    )


def _told(params: Any, inputs: Mapping[str, Any]) -> str:
    """Names and shapes, as many as can be read."""
    found = [(f"params{keystr(path)}", a) for path, a in _leaves(params)] + [*inputs.items()]
    shape = lambda a: f"{a.dtype}{list(a.shape)}" if hasattr(a, "shape") else type(a).__name__
    lines = [f"    {name}: {shape(a)}" for name, a in found]
    more = [f"    … and {len(lines) - 24} more"] if len(lines) > 24 else []
    return "\n".join(lines[:24] + more)
