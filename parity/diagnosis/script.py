"""Writes torch's side of a problem as a script, for whoever is to look at it next."""

import pathlib
from collections.abc import Sequence

import numpy as np

import jaxrnn

from ..cases import Case
from .call import OUTPUTS, port_arguments
from .problem import Problem


def write_script(problem: Problem, path: pathlib.Path) -> None:
    """Writes a script that needs torch and numpy only; its numbers go to `…_numbers.npz`.

    Dropout masks, which torch does not take, need this package too.
    """
    params, inputs = port_arguments(problem.case, problem.data, problem.data.leaves)
    arrays = {f"w/{name}": a for name, a in params.items()} | inputs
    arrays |= {
        name: problem.results[key] for name, key in OUTPUTS.items() if key in problem.results
    }
    narrow = lambda a: a.astype(np.float32) if a.dtype.name == "bfloat16" else a
    file = path.with_name(f"{path.stem}_numbers.npz")
    jaxrnn.save(file, {name: narrow(a) for name, a in arrays.items()})
    path.write_text(_script(problem, file.name))


def module(problem: Problem) -> str:
    """Returns the module as torch's users write it."""
    case, s = problem.case, problem.case.structure
    options = {
        "num_layers": s.num_layers,
        "nonlinearity": case.nonlinearity,
        "bias": s.bias,
        "batch_first": case.batch_first,
        "dropout": case.dropout,
        "bidirectional": s.bidirectional,
        "proj_size": s.proj_size,
    }
    usual = {"num_layers": 1, "nonlinearity": "tanh", "bias": True}
    words = [f"{name}={value!r}" for name, value in options.items() if value != usual.get(name, 0)]
    return f"torch.nn.{s.torch_name}({', '.join([str(s.input_size), str(s.hidden_size), *words])})"


def _script(problem: Problem, file: str) -> str:
    case, masked, rows = problem.case, problem.data.masks is not None, _rows(problem.case)
    narrow = "a.bfloat16() if a.is_floating_point() else a"  # numpy's files know no bfloat16
    states = [f'data["{name}0"]{rows.get(f"{name}0", "")}' for name in _states(case)]
    state = f"[{', '.join(states)}]" if masked else _tree(states)
    imports = ["import pathlib", "", "import numpy as np", "import torch"]
    if _packed(case):
        imports.append("from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence")
    if masked:
        imports.append("from parity.backends.torch import with_masks")
    lines = [
        '"""Torch against what a port made of the same numbers; by parity.diagnose."""',
        "",
        *imports,
        "",
        f'file = pathlib.Path(__file__).with_name("{file}")',
        "data = {name: torch.tensor(a) for name, a in np.load(file).items()}",
        *([f"data = {{n: {narrow} for n, a in data.items()}}"] * (problem.dtype == "bfloat16")),
        f"module = {module(problem)}.to(torch.{problem.dtype})",
        'module.load_state_dict({n[2:]: a for n, a in data.items() if n.startswith("w/")})',
        *_preparation(case, masked),
        f'x, state = data["x"], {state if case.state else "None"}',
        *_run(case, masked),
        *_differences(problem),
    ]
    return "\n".join(lines) + "\n"


def _states(case: Case) -> str:
    return "hc" if case.structure.gates == 4 else "h"


def _tree(parts: Sequence[str]) -> str:
    return f"({', '.join(parts)})" if len(parts) == 2 else parts[0]


def _packed(case: Case) -> bool:
    return case.lengths is not None and case.batch is not None


def _rows(case: Case) -> dict[str, str]:
    """Returns the index, by name, of what torch computes where there are lengths."""
    if _packed(case):
        states = dict.fromkeys(("hn", "cn", "h0", "c0"), "[:, keep]")
        return {"y": "[keep]" if case.batch_first else "[:, keep]"} | states
    return {} if case.lengths is None else {"y": "[:lengths]"}


def _preparation(case: Case, masked: bool) -> list[str]:
    """Cuts the inputs to the lengths."""
    if case.lengths is None:
        return []
    rows = _rows(case)["y"]
    lines = ['lengths = data["lengths"]']
    if _packed(case):
        lines += ["keep = lengths > 0  # torch packs no empty sequence"]
    lines += [f'data["x"] = data["x"]{rows}']
    return lines + [f'data["masks"] = data["masks"][:, {rows[1:]}'] * masked


def _run(case: Case, masked: bool) -> list[str]:
    """Runs the module; with masks layer by layer, each with its part of the state."""
    names = [f"{name}n" for name in _states(case)]
    if case.cell:
        return [f"{_tree(names)} = module(x, state)"]
    lines = ["run = lambda layer, x, state: layer(x, state)"]
    if _packed(case):
        lines = [
            f'options = {{"batch_first": {case.batch_first}}}',
            "",
            "",
            "def run(layer, x, state):",
            "    x = pack_padded_sequence(x, lengths[keep], enforce_sorted=False, **options)",
            "    y, state = layer(x, state)",
            f"    return pad_packed_sequence(y, total_length={case.time}, **options)[0], state",
            "",
            "",
        ]
    if not masked:
        return [*lines, f"y, {_tree(names)} = run(module, x, state)"]
    state, final = ("tuple(state)", _tree(names)) if len(names) == 2 else ("state[0]", "(hn,)")
    return [
        *lines,
        f"each = lambda layer, x, state: run(layer, x, state and {state})",
        f'y, {final} = with_masks(module, each, x, state, data["masks"], {case.dropout})',
    ]


def _differences(problem: Problem) -> list[str]:
    """Prints how far each result is from torch's, or both shapes."""
    rows, lines = _rows(problem.case), []
    for name, key in OUTPUTS.items():
        result = f'data["{name}"]{rows.get(name, "")}'
        if key in problem.comparable:
            lines.append(f'print("{name} is off by", ({result} - {name}).abs().max().item())')
        elif key in problem.results:
            lines.append(
                f'print("{name} is", list({result}.shape), "in torch", list({name}.shape))'
            )
    return lines
