"""Evaluates a JAX function's jaxpr, and keeps the values that it tags with `checkpoint_name`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.core import eval_jaxpr
from jax.extend.core import Literal

from .adapt import name_of, plain


TAG = "name"  # JAX's primitive behind `checkpoint_name`
CALLS = ("jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint", "custom_jvp_call",
         "custom_vjp_call")  # fmt: skip
Tagged = dict[tuple[str, bool], list[Any]]  # by tag, and whether `scan` has stacked its values


class Tags:
    """A JAX function with its tagged values for a result; `hidden` are tags without values."""

    hidden: list[str]

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.__name__ = function, name_of(function)

    def __call__(self, *args: Any, **kwargs: Any) -> Tagged:
        jaxpr = jax.make_jaxpr(lambda: plain(self.function(*args, **kwargs)))()
        tagged = jax.jit(lambda consts: _evaluate(jaxpr.jaxpr, consts, [])[1])(jaxpr.consts)
        self.hidden = sorted(_tags(jaxpr) - {tag for tag, _ in tagged})
        return tagged


def _evaluate(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> tuple[list[Any], Tagged]:
    """A program's results, and the values that it, or a program that it calls, tags."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
    read = lambda v: v.val if isinstance(v, Literal) else values[v]
    tagged: Tagged = {}
    for eqn in jaxpr.eqns:
        inputs, inner = [read(v) for v in eqn.invars], {}
        kind, programs = eqn.primitive.name, [*_programs(eqn)]
        if kind == TAG:
            results, inner = inputs, {(eqn.params["name"], False): inputs}
        elif kind == "scan" and any(map(_tags, programs)):
            results, inner = _scan(eqn, inputs)
        elif kind in CALLS and any(map(_tags, programs)):
            results, inner = _evaluate(*_open(programs[0]), inputs)
        else:
            variables = [v for v in eqn.invars if not isinstance(v, Literal)]
            alone = jaxpr.replace(constvars=[], invars=variables, outvars=eqn.outvars, eqns=[eqn])
            results = eval_jaxpr(alone, [], *map(read, variables))
        values |= zip(eqn.outvars, results, strict=True)
        for key, more in inner.items():
            tagged.setdefault(key, []).extend(more)
    return [read(v) for v in jaxpr.outvars], tagged


def _scan(eqn: Any, inputs: list[Any]) -> tuple[list[Any], Tagged]:
    """The same loop with a body that also returns what is tagged in it."""
    if "num_carry" in eqn.params:
        fixed, carried = eqn.params["num_consts"], eqn.params["num_carry"]
    else:  # jax 0.12
        fixed, carried, _ = map(len, eqn.params["ft_in"].unpack())
    consts, init, xs = inputs[:fixed], inputs[fixed:][:carried], inputs[fixed + carried :]

    def body(carry: Any, x: Any) -> Any:
        results, tagged = _evaluate(*_open(eqn.params["jaxpr"]), [*consts, *carry, *x])
        stacked = {(tag, True): [] for tag, _ in tagged}
        for (tag, _), values in tagged.items():
            stacked[tag, True] += values
        return results[:carried], (results[carried:], stacked)

    options = {name: eqn.params[name] for name in ("length", "reverse", "unroll")}
    carry, (ys, tagged) = jax.lax.scan(body, init, xs, **options)
    return [*carry, *ys], tagged


def _programs(eqn: Any) -> Iterator[Any]:
    """The programs that an equation calls."""
    for value in eqn.params.values():
        for each in value if isinstance(value, tuple | list) else [value]:
            if hasattr(each, "eqns"):
                yield each


def _open(program: Any) -> tuple[Any, Sequence[Any]]:
    """A program and its constants, if it has any."""
    return (program.jaxpr, program.consts) if hasattr(program, "consts") else (program, [])


def _tags(program: Any) -> set[str]:
    """The tags in a program and in all programs that it calls."""
    names = set()
    for eqn in program.eqns:
        if eqn.primitive.name == TAG:
            names.add(eqn.params["name"])
        names = names.union(*map(_tags, _programs(eqn)))
    return names
