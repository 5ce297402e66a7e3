"""Times of jaxrnn, torch and the JAX peers on the same networks, weights and data.

Each implementation has its own process, runtime and threads. One runs at a time, in turn, A B A B
…, so all meet the same machine. A turn is a pause, a call that is not timed, and calls for some
30 ms.
"""

import contextlib
import math
import multiprocessing
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
from .peers import DIFFERS, DISTRIBUTIONS, first_line, is_installed


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
BY_NAME = ("torch.compile",)  # it unrolls time and compiles for minutes
TURNS = 7
SECONDS = 0.03

Pools = Mapping[str, ProcessPoolExecutor]


class Row(NamedTuple):
    """The measurements of one implementation on one network; times are in seconds.

    None: not measured. `remark` is the reason for a missing error, or for an empty row.
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
    ratio: float | None = None  # its median / jaxrnn's


def case_of(cell: str, shape: str) -> Case:
    """Returns a shape, of the grid or a user's, as a case.

    Raises:
        ValueError: the shape cannot be read.
    """
    sizes, flags = shape.split(",")[:4], shape.split(",")[4:]
    numbers = [int(size) for size in sizes if size.isdecimal()]
    known = {*flags} <= {"bi2", "ragged"} and len({*flags}) == len(flags)
    if len(numbers) != 4 or 0 in numbers or not known:
        raise ValueError(f"{shape!r} is no B,T,I,H of positive integers, with ,bi2 or ,ragged")
    batch, time, *features = numbers
    bi2, lengths = "bi2" in flags, None
    if "ragged" in flags:
        drawn = np.random.default_rng(0).integers(1, time, batch, endpoint=True)
        lengths = (time, *drawn[1:].tolist())
    return Case(
        shape,
        Structure(cell, *features, num_layers=1 + bi2, bidirectional=bi2),
        time=time,
        batch=batch,
        state=False,
        lengths=lengths,
        padding=0.0,
    )


def flops(case: Case, training: bool) -> int:
    """Counts the products with the weights; nothing else matters, and each gradient takes two.

    XLA's own analysis counts the body of a loop only once.
    """
    s = case.structure
    widths = [s.input_size] + [s.num_directions * s.hidden_size] * (s.num_layers - 1)
    step = sum(2 * s.gates * s.hidden_size * (width + s.hidden_size) for width in widths)
    steps = case.time * (case.batch or 1) if case.lengths is None else sum(case.lengths)
    return steps * s.num_directions * step * (3 if training else 1)


def spread(times: Sequence[float]) -> tuple[float, float, float]:
    """Returns the 10th percentile, the median and the 90th percentile."""
    p10, median, p90 = np.percentile(times, [10, 50, 90]).tolist()
    return p10, median, p90


def geometric_mean(ratios: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def error_of(case: Case, truth: Arrays, arrays: Arrays) -> float:
    """Returns the largest relative rms error of a tensor."""
    errors = []
    for name, a in arrays.items():
        error = a.astype(np.float64) - truth[name]
        if name == "y":
            error *= ~beyond(case)[..., None]  # padding: peers differ there, torch has 0
        errors.append(np.sqrt(np.mean(error**2) / np.mean(truth[name] ** 2)))
    return float(np.max(errors))


def usual(device: str) -> list[str]:
    """Returns the implementations that run next to jaxrnn by default."""
    gpu_only = ("jax.experimental.rnn",) if device != "gpu" else ()
    return [name for name in DISTRIBUTIONS if name not in ("jaxrnn", *BY_NAME, *gpu_only)]


def installed(names: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if is_installed(DISTRIBUTIONS[name])]


@contextlib.contextmanager
def workers(names: Sequence[str], settings: Settings) -> Iterator[Pools]:
    """Starts a process for each implementation, and one for torch, which computes the truth."""
    with contextlib.ExitStack() as stack:
        pools = {}
        for name in dict.fromkeys(["torch", *names]):
            pool = ProcessPoolExecutor(
                1, multiprocessing.get_context("spawn"), bench_worker.start, (settings,)
            )
            pools[name] = stack.enter_context(pool)
        # All start at once, and each library does its first-use work here.
        first = case_of("lstm", "1,1,1,1")
        wait([pool.submit(bench_worker.prepare, n, first, True) for n, pool in pools.items()])
        yield pools


def truth(pools: Pools, case: Case) -> Arrays:
    """Returns outputs and gradients in float64."""
    return pools["torch"].submit(bench_worker.truth, case).result()


def calibrate(pools: Pools) -> dict[str, Any]:
    """Returns the best speeds of torch and JAX on this machine, in a product and in a copy."""
    names = [name for name in ("torch", "jaxrnn") if name in pools]
    answers = [_ask(pools[name], bench_worker.calibrate, name) for name in names]
    speeds = [answer for answer, failure in answers if not failure]
    return {name: max(each[name] for each in speeds) for name in ("gflops", "gb_per_s")}


def measure(
    pools: Pools,
    names: Sequence[str],
    case: Case,
    mode: str,
    truth: Arrays,
    between: Callable[[], None],
) -> list[Row]:
    """Measures one network in all implementations; `between` is called after each step, untimed."""
    kind, training = case.structure.kind, mode == "training"
    rows: dict[str, Row] = {}
    times: dict[str, list[float]] = {}
    for name in names:
        remark = DIFFERS.get((name, kind), "")
        rows[name] = Row(kind, mode, case.group, name, remark=remark)
        prepared, failure = _ask(pools[name], bench_worker.prepare, name, case, training)
        if failure:
            rows[name] = rows[name]._replace(remark=failure)
        else:
            costs, arrays = prepared
            error = None if remark else error_of(case, truth, arrays)
            rows[name], times[name] = rows[name]._replace(**costs, error=error), []
        between()
    for _ in range(TURNS):
        for name in list(times):
            turn, failure = _ask(pools[name], bench_worker.turn, SECONDS)
            if failure:
                rows[name] = rows[name]._replace(remark=failure)
                del times[name]
            else:
                times[name] += turn
        between()
    unit = spread(times["jaxrnn"])[1] if "jaxrnn" in times else None
    count = flops(case, training)
    for name in times:
        rows[name] = _timed(rows[name], case, count, times[name], unit)
    return list(rows.values())


def _timed(row: Row, case: Case, count: int, times: list[float], unit: float | None) -> Row:
    """Adds everything that follows from the times; `unit` is jaxrnn's median."""
    p10, median, p90 = spread(times)
    return row._replace(
        median=median,
        p10=p10,
        p90=p90,
        calls=len(times),
        us_per_step=median / case.time * 1e6,
        sequences_per_s=(case.batch or 1) / median,
        gflops=count / median / 1e9,
        ratio=None if unit is None else median / unit,
    )


def _ask(
    pool: ProcessPoolExecutor, function: Callable[..., Any], *arguments: Any
) -> tuple[Any, str]:
    """Returns the result, or the failure in one line: a peer that fails does not end the bench."""
    try:
        return pool.submit(function, *arguments).result(), ""
    except NotImplementedError as error:
        return None, str(error)
    except Exception as error:
        return None, f"failed: {first_line(error)}"
