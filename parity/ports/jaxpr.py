"""What a JAX function tags: its jaxpr is evaluated, and values that bear a tag are kept."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.core import eval_jaxpr
from jax.extend.core import Literal

from .adapt import name_of, plain


TAG = "name"  # JAX's primitive behind `checkpoint_name`
CALLS = ("jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint", "custom_jvp_call",
         "custom_vjp_call")  # fmt: skip
Seen = dict[tuple[str, bool], list[Any]]  # by tag, and whether `scan` has stacked its values


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
