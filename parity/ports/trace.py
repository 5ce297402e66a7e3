"""The first layer that differs: what torch's submodules return against what the JAX function tags.

In torch a value has the name of the submodule that returns it. In JAX the user tags it with JAX's
own `jax.ad_checkpoint.checkpoint_name(value, "encoder.lstm")`, which changes nothing and needs no
import of this package.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from ..report.port import Report, report_of
from .adapt import Mapper, flat, pair_of, parameters_of, plain
from .jaxpr import Tagged, Tags
from .port import checked, first_run, laid_out, remarks, run_both


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
    """Compares values on the way in torch's order, and so names the first layer that differs.

    The JAX function tags the values to compare, under torch's names::

        from jax.ad_checkpoint import checkpoint_name

        y, state = jaxrnn.lstm(params["encoder"]["lstm"], x)
        y = checkpoint_name(y, "encoder.lstm")

    The further tensors of a submodule's result have their path in it after the name, such as
    `"encoder.lstm.1.0"` for h_n. The values of a submodule that is called several times are stacked
    along a new leading axis, as are the values of a tag inside `jax.lax.scan`.

    Args:
        torch_module: the module; hooks are put on a copy of it.
        jax_function: `f(params, *inputs)` with tags in it.
        inputs: this and all other arguments are those of `parity.compare`.

    Returns:
        A `Report` on the values in the order in which torch computes them. Its remarks list torch's
        names without a tag, tags that are not a name of torch, and tags that cannot be read.

    Raises:
        ValueError: no value is tagged with a name of torch; and as `parity.compare`.
        TypeError: `torch_module` is not a module; and as `parity.compare`.
    """
    torch_module = checked(torch_module, jax_function)
    if not isinstance(torch_module, nn.Module):
        kind = type(torch_module).__name__
        raise TypeError(f"`torch_module` must be a torch.nn.Module, whose parts have names: {kind}")
    parameters = parameters_of(torch_module, params)
    hooks, tags = Hooks(), Tags(jax_function)
    pair = pair_of(torch_module, tags, parameters, inputs, mapping, hooks)
    returned = first_run(pair, torch_module, dtype, device)
    data = pair.draw(dtype)
    with jax.enable_x64(dtype == "float64"):
        tagged = jax.eval_shape(lambda: pair.call(pair.jax, data.params, **data.inputs))
    readers, unknown = _readers(tagged, hooks.calls)
    if not readers:
        raise ValueError(_nothing([*unknown, *tags.hidden], hooks.calls))
    names = [name for name in returned if name in readers]
    pair = laid_out(pair, torch_module, {n: returned[n] for n in names}, batch_first)
    run_torch, run_jax = pair.torch, pair.jax

    def values(*args: Any, **kwargs: Any) -> Any:
        tagged = run_jax(*args, **kwargs)
        return [readers[name](tagged) for name in names]

    stacked = [leaf for n, leaves in hooks.calls.values() if n > 1 for leaf in leaves]
    pair = pair._replace(
        name=f"{pair.name}, traced",
        torch=lambda *args, **kwargs: [run_torch(*args, **kwargs)[name] for name in names],
        jax=values,
        layout=pair.layout._replace(stacked=stacked),
    )
    reference, results = run_both(pair, dtype, device, None)
    facts = {
        "not tagged in JAX": [
            n for n, (_, leaves) in hooks.calls.items() if not {*leaves} & {*readers}
        ],
        "tagged in JAX, but no name of torch's": unknown,
        "tagged where it cannot be read, inside a `cond` or `while`": tags.hidden,
    }
    return report_of(pair, reference, results, remarks(facts))


class Hooks:
    """Keeps what every submodule returns, and stacks the values of several calls.

    `calls` has the number of calls of each, and the names of its leaves, of which the first is its
    own.
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
            values, self.calls = OrderedDict(), {}
            for name, every in runs.items():
                names = [name, *(f"{name}.{path}" for path, _ in every[0][1:])][: len(every[0])]
                self.calls[name] = len(every), names
                for i, leaf in enumerate(names):
                    values[leaf] = _stack(torch.stack, [run[i][1] for run in every])
            return values

        return results


def _stack(stack: Callable[..., Any], values: list[Any]) -> Any:
    alike = len({tuple(a.shape) for a in values}) == 1
    return stack(values) if alike and len(values) > 1 else values[0]


def _readers(
    tagged: Tagged, calls: Mapping[str, tuple[int, list[str]]]
) -> tuple[dict[str, Callable[[Tagged], Any]], list[str]]:
    """For each of torch's names that has a tag, a function that reads its value; and other tags."""
    known = {leaf: (n, [leaf]) for n, leaves in calls.values() for leaf in leaves} | {**calls}
    readers: dict[str, Callable[[Tagged], Any]] = {}
    for (tag, stacked), values in tagged.items():
        n, leaves = known.get(tag, (1, []))
        single = stacked or n == 1  # else the values of the first call, then those of the second
        each = len(values) if single else max(1, len(values) // n)
        for i, leaf in enumerate(leaves[:each]):
            part = slice(i, i + 1) if single else slice(i, None, each)
            readers[leaf] = lambda tagged, key=(tag, stacked), part=part: _stack(
                jnp.stack, tagged[key][part]
            )
    return readers, list(dict.fromkeys(tag for tag, _ in tagged if tag not in known))


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
