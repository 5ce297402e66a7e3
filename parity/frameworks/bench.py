"""Speed side by side: jaxrnn, torch and the JAX peers on the same networks, weights and data.

Each implementation lives in a process of its own, with its own runtime and threads. One of them
runs at a time, in turn, A B A B …, so that all see the same machine; a turn is a pause, a call that
is not timed, and calls for some 30 ms.
"""

import contextlib
import importlib.metadata
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from typing import Any, NamedTuple

import numpy as np

from jaxrnn import Structure

from ..backends.data import beyond
from ..cases import Case
from ..criterion import Arrays
from . import bench_worker
from .bench_worker import Settings
from .peers import DIFFERS, DISTRIBUTIONS


CELLS = ("lstm", "gru", "rnn")
MODES = ("inference", "training")
# B,T,I,H; bi2: two layers in both directions; ragged: lengths drawn from 1 to T.
GRID = (
    "32,100,10,20",
    "1,100,64,64",
    "16,200,64,128",
    "32,50,128,256",
    "64,40,256,512",
    "8,50,512,1024",
    "16,1000,64,128",
    "16,200,64,128,bi2",
    "16,200,64,128,ragged",
)
CROSS_SECTION = {
    "lstm": (*GRID[:4], *GRID[-2:]),
    "gru": GRID[:3],
    "rnn": GRID[:3],
}
BY_NAME = ("torch.compile",)  # torch unrolls time for it, and compiles for minutes
TURNS = 7
SECONDS = 0.03

Pools = Mapping[str, ProcessPoolExecutor]


class Row(NamedTuple):
    """What was measured of one implementation on one network; times are in seconds.

    None where there is nothing to measure. `remark` says why there is no error, or nothing at all.
    """

    cell: str
    mode: str
    shape: str
    implementation: str
    picked: str = ""  # the implementation that jaxrnn has picked, and why
    why: str = ""
    remark: str = ""
    trace: float | None = None
    compile: float | None = None
    first: float | None = None
    calls: int = 0
    median: float | None = None
    p10: float | None = None
    p90: float | None = None
    us_per_step: float | None = None
    sequences_per_s: float | None = None
    gflops: float | None = None
    of_peak: float | None = None  # the best of both calibrations
    temp_bytes: int | None = None
    error: float | None = None
    ratio: float | None = None  # its median by jaxrnn's


def case_of(cell: str, shape: str) -> Case:
    """A shape of the grid, or a user's, as a case.

    Raises:
        ValueError: what is no shape.
    """
    sizes, flags = shape.split(",")[:4], shape.split(",")[4:]
    numbers = [int(size) for size in sizes if size.isdecimal()]
    known = {*flags} <= {"bi2", "ragged"} and len({*flags}) == len(flags)
    if len(numbers) != 4 or 0 in numbers or not known:
        raise ValueError(f"{shape!r} is no B,T,I,H of positive integers, with ,bi2 or ,ragged")
    batch, time, *features = numbers
    both = "bi2" in flags
    lengths = None
    if "ragged" in flags:
        drawn = np.random.default_rng(0).integers(1, time, batch, endpoint=True)
        lengths = (time, *drawn[1:].tolist())
    return Case(
        shape,
        Structure(cell, *features, num_layers=1 + both, bidirectional=both),
        time=time,
        batch=batch,
        state=False,
        lengths=lengths,
        padding=0.0,
    )


def flops(case: Case, training: bool) -> int:
    """Of the products with the weights, beside which nothing counts; their gradients take two each.

    Counted, since XLA's own analysis takes the body of a loop once.
    """
    s = case.structure
    widths = [s.input_size] + [s.num_directions * s.hidden_size] * (s.num_layers - 1)
    step = sum(2 * s.gates * s.hidden_size * (width + s.hidden_size) for width in widths)
    steps = case.time * (case.batch or 1) if case.lengths is None else sum(case.lengths)
    return steps * s.num_directions * step * (3 if training else 1)


def spread(times: Sequence[float]) -> tuple[float, float, float]:
    """The median, between the two times within which eight of ten lie."""
    p10, median, p90 = np.percentile(times, [10, 50, 90]).tolist()
    return p10, median, p90


def geometric_mean(ratios: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def error_of(case: Case, truth: Arrays, arrays: Arrays) -> float:
    """The relative rms error of the tensor that is furthest off."""
    errors = []
    for name, a in arrays.items():
        error = a.astype(np.float64) - truth[name]
        if name == "y":
            error *= ~beyond(case)[..., None]  # there peers differ, and torch has 0
        errors.append(np.sqrt(np.mean(error**2) / np.mean(truth[name] ** 2)))
    return float(np.max(errors))


def usual(device: str) -> list[str]:
    """Whom to compare with, if nobody is named."""
    gpu_only = ("jax.experimental.rnn",) if device != "gpu" else ()
    return [name for name in DISTRIBUTIONS if name not in ("jaxrnn", *BY_NAME, *gpu_only)]


def installed(names: Sequence[str]) -> list[str]:
    """Those implementations that are there."""
    found = {each.name.lower() for each in importlib.metadata.distributions()}
    return [name for name in dict.fromkeys(names) if DISTRIBUTIONS[name] in found]


@contextlib.contextmanager
def workers(names: Sequence[str], settings: Settings) -> Iterator[Pools]:
    """A process for each implementation, and for torch in any case, which computes the truth."""
    with contextlib.ExitStack() as stack:
        pools = {}
        for name in dict.fromkeys(["torch", *names]):
            pool = ProcessPoolExecutor(
                1, multiprocessing.get_context("spawn"), bench_worker.start, (settings,)
            )
            pools[name] = stack.enter_context(pool)
        # All at once, and what every library does only when first used is done here.
        first = case_of("lstm", "1,1,1,1")
        wait([pool.submit(bench_worker.prepare, n, first, True) for n, pool in pools.items()])
        yield pools


def truth(pools: Pools, case: Case) -> Arrays:
    """Outputs and gradients in float64."""
    return pools["torch"].submit(bench_worker.truth, case).result()


def calibrate(pools: Pools) -> dict[str, Any]:
    """The best that torch or JAX gets out of this machine, in a product and in a copy."""
    names = [name for name in ("torch", "jaxrnn") if name in pools]
    answers = [_ask(pools[name], bench_worker.calibrate, name) for name in names]
    found = [speeds for speeds, why in answers if not why]
    return {name: max(speeds[name] for speeds in found) for name in ("gflops", "gb_per_s")}


def measure(
    pools: Pools,
    names: Sequence[str],
    case: Case,
    mode: str,
    truth: Arrays,
    between: Callable[[], None],
) -> list[Row]:
    """One network in all implementations; `between` is called after each step, untimed."""
    kind, training = case.structure.kind, mode == "training"
    rows: dict[str, Row] = {}
    times: dict[str, list[float]] = {}
    for name in names:
        remark = DIFFERS.get((name, kind), "")
        rows[name] = Row(kind, mode, case.group, name, remark=remark)
        found, why = _ask(pools[name], bench_worker.prepare, name, case, training)
        if why:
            rows[name] = rows[name]._replace(remark=why)
        else:
            costs, arrays = found
            error = None if remark else error_of(case, truth, arrays)
            rows[name], times[name] = rows[name]._replace(**costs, error=error), []
        between()
    for _ in range(TURNS):
        for name in list(times):
            turn, why = _ask(pools[name], bench_worker.turn, SECONDS)
            if why:
                rows[name] = rows[name]._replace(remark=why)
                del times[name]
            else:
                times[name] += turn
        between()
    ours = spread(times["jaxrnn"])[1] if "jaxrnn" in times else None
    count = flops(case, training)
    for name in times:
        rows[name] = _timed(rows[name], case, count, times[name], ours)
    return list(rows.values())


def _timed(row: Row, case: Case, count: int, times: list[float], ours: float | None) -> Row:
    """With everything that follows from its times."""
    p10, median, p90 = spread(times)
    return row._replace(
        median=median,
        p10=p10,
        p90=p90,
        calls=len(times),
        us_per_step=median / case.time * 1e6,
        sequences_per_s=(case.batch or 1) / median,
        gflops=count / median / 1e9,
        ratio=None if ours is None else median / ours,
    )


def _ask(
    pool: ProcessPoolExecutor, function: Callable[..., Any], *arguments: Any
) -> tuple[Any, str]:
    """Its answer, or in one line why there is none: a peer that fails does not end the bench."""
    try:
        return pool.submit(function, *arguments).result(), ""
    except NotImplementedError as error:
        return None, str(error)
    except Exception as error:
        return None, f"failed: {type(error).__name__}: {str(error).partition(os.linesep)[0]}"
