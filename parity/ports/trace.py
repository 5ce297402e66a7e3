"""The first layer that differs: what torch's submodules return against what the JAX function tags.

In torch a value is known by the path of the submodule that returns it. In JAX it is tagged with
JAX's own `jax.ad_checkpoint.checkpoint_name(value, "encoder.lstm")`, which changes nothing and asks
for no import of this package.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import torch
from jax.core import eval_jaxpr
from jax.extend.core import Literal
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from ..report.port import Report, report_of
from .adapt import (
    Mapper,
    flat,
    name_of,
    pair_of,
    parameters_of,
    plain,
)
from .port import checked, first_run, laid_out, run_both, told


TAG = "name"  # JAX's primitive behind `checkpoint_name`
CALLS = ("jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint", "custom_jvp_call",
         "custom_vjp_call")  # fmt: skip
Seen = dict[tuple[str, bool], list[Any]]  # by tag, and whether `scan` has stacked its values


def trace(
    torch_module: nn.Module,
    jax_function: Callable[..., Any],
    *,
    inputs: Sequence[Any] | Mapping[str, Any],
    params: Mapping[str, Any] | None = None,
    mapping: Mapper | Mapping[str, str | Mapper] | None = None,
    batch_first: bool | None = None,
    dtype: str = "float64",
    device: str = "cpu",
) -> Report:
    """Compares values on the way, in torch's order, so that the first layer that differs is named.

    The JAX function tags what is to be compared, under torch's names::

        from jax.ad_checkpoint import checkpoint_name

        y, state = jaxrnn.lstm(params["encoder"]["lstm"], x)
        y = checkpoint_name(y, "encoder.lstm")

    What a submodule returns beside its first tensor is called by its path in the result, such as
    `"encoder.lstm.1.0"` for h_n. The values of a submodule that is called several times are stacked
    along a new leading axis, as are those of a tag inside `jax.lax.scan`.

    Args:
        torch_module: the module; hooks are put on a copy of it.
        jax_function: `f(params, *inputs)` with tags in it.
        inputs: as all others, of `parity.compare`.

    Returns:
        A `Report` on the values in the order in which torch computes them; its remarks list names
        of torch that no tag has, tags that are no name of torch, and tags that cannot be read.

    Raises:
        ValueError: no value is tagged, or none under a name of torch's; and as `parity.compare`.
        TypeError: `torch_module` is no module; and as `parity.compare`.
    """
    torch_module = checked(torch_module, jax_function)
    if not isinstance(torch_module, nn.Module):
        kind = type(torch_module).__name__
        raise TypeError(f"`torch_module` must be a torch.nn.Module, whose parts have names: {kind}")
    parameters = parameters_of(torch_module, params)
    hooks = Hooks()
    tags = Tags(jax_function)
    pair = pair_of(torch_module, tags, parameters, inputs, mapping, hooks)
    results = first_run(pair, torch_module, dtype, device)
    data = pair.draw(dtype)
    with jax.enable_x64(dtype == "float64"):
        seen = jax.eval_shape(lambda: pair.call(pair.jax, data.params, **data.inputs))
    places, strange = _places(seen, hooks.calls)
    if not places:
        raise ValueError(_nothing([*strange, *tags.hidden], hooks.calls))
    names = [name for name in results if name in places]
    pair = laid_out(pair, torch_module, {n: results[n] for n in names}, batch_first)
    theirs, ours = pair.torch, pair.jax

    def picked(*args: Any, **kwargs: Any) -> Any:
        found = ours(*args, **kwargs)
        return [places[name](found) for name in names]

    stacked = [leaf for n, leaves in hooks.calls.values() if n > 1 for leaf in leaves]
    pair = pair._replace(
        name=f"{pair.name}, traced",
        torch=lambda *args, **kwargs: [theirs(*args, **kwargs)[name] for name in names],
        jax=picked,
        layout=pair.layout._replace(stacked=stacked),
    )
    reference, found = run_both(pair, dtype, device, None)
    facts = {
        "not tagged in JAX": [n for n, (_, own) in hooks.calls.items() if not {*own} & {*places}],
        "tagged in JAX, but no name of torch's": strange,
        "tagged where it cannot be read, inside a `cond` or `while`": tags.hidden,
    }
    return report_of(pair, reference, found, told(facts))


class Hooks:
    """Keeps what every submodule returns; `calls` says how often each did, and its leaves' names.

    Of several calls the values are stacked. The first leaf is called like the submodule.
    """

    calls: dict[str, tuple[int, list[str]]]

    def __call__(self, module: nn.Module) -> Callable[[], Any]:
        runs: dict[str, list[list[tuple[str, torch.Tensor]]]] = {}

        def keep(name: str, part: Any, result: Any) -> None:
            pad = lambda a: pad_packed_sequence(a, batch_first=part.batch_first)[0]
            packed = lambda a: isinstance(a, PackedSequence)
            tree = jax.tree.map(lambda a: pad(a) if packed(a) else a, plain(result), is_leaf=packed)
            leaves = [(p, a) for p, a in flat(tree).items() if isinstance(a, torch.Tensor)]
            # Copies, since what follows may write into them.
            runs.setdefault(name, []).append([(path, a.detach().clone()) for path, a in leaves])

        for name, part in module.named_modules():
            if name:
                hook = lambda part, _, result, name=name: keep(name, part, result)
                part.register_forward_hook(hook)

        def results() -> Any:
            found, self.calls = OrderedDict(), {}
            for name, every in runs.items():
                names = [name, *(f"{name}.{path}" for path, _ in every[0][1:])][: len(every[0])]
                self.calls[name] = len(every), names
                for i, leaf in enumerate(names):
                    found[leaf] = _stack(torch.stack, [run[i][1] for run in every])
            return found

        return results


def _stack(stack: Callable[..., Any], values: list[Any]) -> Any:
    alike = len({tuple(a.shape) for a in values}) == 1
    return stack(values) if alike and len(values) > 1 else values[0]


class Tags:
    """In place of its result, a JAX function's tagged values; `hidden` are tags without values."""

    hidden: list[str]

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.__name__ = function, name_of(function)

    def __call__(self, *args: Any, **kwargs: Any) -> Seen:
        jaxpr = jax.make_jaxpr(lambda: plain(self.function(*args, **kwargs)))()
        seen = jax.jit(lambda consts: _evaluate(jaxpr.jaxpr, consts, [])[1])(jaxpr.consts)
        self.hidden = sorted(_tags(jaxpr) - {tag for tag, _ in seen})
        return seen


def _places(
    seen: Seen, calls: Mapping[str, tuple[int, list[str]]]
) -> tuple[dict[str, Callable[[Seen], Any]], list[str]]:
    """For each of torch's names that has a tag, what gets its value; and tags that have no name."""
    known = {leaf: (n, [leaf]) for n, leaves in calls.values() for leaf in leaves} | {**calls}
    places: dict[str, Callable[[Seen], Any]] = {}
    for (tag, stacked), values in seen.items():
        n, leaves = known.get(tag, (1, []))
        single = stacked or n == 1  # else the values of the first call, then those of the second
        each = len(values) if single else max(1, len(values) // n)
        for i, leaf in enumerate(leaves[:each]):
            part = slice(i, i + 1) if single else slice(i, None, each)
            places[leaf] = lambda seen, key=(tag, stacked), part=part: _stack(
                jnp.stack, seen[key][part]
            )
    return places, list(dict.fromkeys(tag for tag, _ in seen if tag not in known))


def _nothing(tags: Sequence[str], calls: Mapping[str, Any]) -> str:
    names = ", ".join(calls)
    if tags:
        return f"no tag of `jax_function` is a name of torch's ({names}): {', '.join(tags)}"
    first = next(iter(calls), "lstm")
    return (
        "`jax_function` tags no value: with jax.ad_checkpoint.checkpoint_name write "
        f'`y = checkpoint_name(y, "{first}")` where it has computed what torch\'s submodule '
        f"`{first}` returns; torch's names are {names}"
    )


def _evaluate(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> tuple[list[Any], Seen]:
    """A program's results, and what bears a tag in it or in the programs that it calls."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
    read = lambda v: v.val if isinstance(v, Literal) else values[v]
    seen: Seen = {}
    for eqn in jaxpr.eqns:
        inputs, inner = [read(v) for v in eqn.invars], {}
        kind, programs = eqn.primitive.name, [*_programs(eqn)]
        if kind == TAG:
            results, inner = inputs, {(eqn.params["name"], False): inputs}
        elif kind == "scan" and any(map(_tags, programs)):
            results, inner = _scan(eqn, inputs)
        elif kind in CALLS and any(map(_tags, programs)):
            program = programs[0]
            results, inner = _evaluate(*_open(program), inputs)
        else:
            variables = [v for v in eqn.invars if not isinstance(v, Literal)]
            alone = jaxpr.replace(constvars=[], invars=variables, outvars=eqn.outvars, eqns=[eqn])
            results = eval_jaxpr(alone, [], *map(read, variables))
        values |= zip(eqn.outvars, results, strict=True)
        for key, found in inner.items():
            seen.setdefault(key, []).extend(found)
    return [read(v) for v in jaxpr.outvars], seen


def _scan(eqn: Any, inputs: list[Any]) -> tuple[list[Any], Seen]:
    """The same loop, whose body also gives what is tagged in it."""
    if "num_carry" in eqn.params:
        fixed, carried = eqn.params["num_consts"], eqn.params["num_carry"]
    else:  # jax 0.12
        fixed, carried, _ = map(len, eqn.params["ft_in"].unpack())
    consts, init, xs = inputs[:fixed], inputs[fixed:][:carried], inputs[fixed + carried :]

    def body(carry: Any, x: Any) -> Any:
        results, seen = _evaluate(*_open(eqn.params["jaxpr"]), [*consts, *carry, *x])
        every = {(tag, True): [] for tag, _ in seen}
        for (tag, _), found in seen.items():
            every[tag, True] += found
        return results[:carried], (results[carried:], every)

    options = {name: eqn.params[name] for name in ("length", "reverse", "unroll")}
    carry, (ys, seen) = jax.lax.scan(body, init, xs, **options)
    return [*carry, *ys], seen


def _programs(eqn: Any) -> Iterator[Any]:
    for value in eqn.params.values():
        for each in value if isinstance(value, tuple | list) else [value]:
            if hasattr(each, "eqns"):
                yield each


def _open(program: Any) -> tuple[Any, Sequence[Any]]:
    """A program and its constants, which not every one has."""
    return (program.jaxpr, program.consts) if hasattr(program, "consts") else (program, [])


def _tags(program: Any) -> set[str]:
    """Of the program, and of all in it."""
    found = set()
    for eqn in program.eqns:
        if eqn.primitive.name == TAG:
            found.add(eqn.params["name"])
        found = found.union(*map(_tags, _programs(eqn)))
    return found
