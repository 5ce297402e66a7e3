"""Many pairs, and the known mistakes with their controls, in parallel processes."""

import functools
import multiprocessing
import os
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, NamedTuple

import jax
import torch

from .cases import Case
from .criterion import Verdict
from .layers import pair_of
from .mutants import layers as layer_mutants
from .mutants import texts as text_mutants
from .mutants import trainings as training_mutants
from .mutants.plant import plant
from .pair import Pair, Result, judge_pair, run_reference
from .texts import optimisers, rows


class Job(NamedTuple):
    """What one worker does in one go: pairs that share a program, or mistakes in one pair.

    Functions do not travel between processes, so pairs go by their keys: the Case, or the group and
    name of a text's pair.
    """

    command: str
    keys: Sequence[Any]
    dtype: str
    mistakes: tuple[str, ...] = ()


TEXTS = {"documents": rows.pairs, "training": optimisers.pairs}
MISTAKES = {
    "layers": layer_mutants.MISTAKES,
    "documents": text_mutants.MISTAKES,
    "training": training_mutants.MISTAKES,
}
NOTHING = Verdict([], [], [])


def jobs(cases: Sequence[Case], dtypes: Sequence[str] | None, mistakes: Sequence[str]) -> list[Job]:
    """The case table's work, the long jobs first; `dtypes` replaces each case's own."""
    sharing: dict[tuple[str, Case], list[Case]] = {}
    for case in cases:
        for dtype in dtypes or case.dtypes:
            sharing.setdefault((dtype, case.program), []).append(case)
    work = [Job("layers", group, dtype) for (dtype, _), group in sharing.items()]
    work.sort(key=lambda job: job.keys[0].second_order, reverse=True)
    planted: dict[tuple[Hashable, str], list[str]] = {}
    for name in mistakes:
        mistake = layer_mutants.MISTAKES[name]
        planted.setdefault((mistake.pair, mistake.dtype), []).append(name)
    groups = [Job("layers", [case], d, tuple(names)) for (case, d), names in planted.items()]
    return sorted(groups, key=lambda job: -len(job.mistakes)) + work


def text_jobs(command: str, groups: Collection[str]) -> list[Job]:
    """The work of these rows in all their dtypes, the long jobs first, with their mistakes."""

    def job(key: Hashable, dtype: str) -> Job:
        planted = MISTAKES[command].items()
        names = [name for name, m in planted if (m.pair, m.dtype) == (key, dtype)]
        return Job(command, [key], dtype, tuple(names))

    pairs = pairs_of(command)
    work = [job(k, dtype) for k, pair in pairs.items() if k[0] in groups for dtype in pair.dtypes]
    return sorted(work, key=lambda job: (-pairs[job.keys[0]].layout.steps, -len(job.mistakes)))


@functools.cache
def pairs_of(command: str) -> Mapping[Any, Pair]:
    """The pairs of the texts or trainings by group and name."""
    return {(pair.group, pair.name): pair for pair in TEXTS[command]()}


def run_all(work: Sequence[Job], device: str = "cpu") -> Iterator[Result]:
    """Results as they come."""
    return spread(run, work, device)


def run(job: Job, device: str = "cpu") -> list[Result]:
    """Each pair, then its mistakes; a mistake does not count as seen if the pair itself fails.

    The pairs of layers' mistakes are controls, which are not in the case table.
    """
    layers, results, program = job.command == "layers", [], None
    for key in job.keys:
        pair = pair_of(key) if isinstance(key, Case) else pairs_of(job.command)[key]
        program = program or pair.program()
        reference = run_reference(pair, job.dtype, device)
        right = judge_pair(pair, reference, program)
        results += [] if layers and job.mistakes else [right]
        for name in job.mistakes:
            wrong = judge_pair(plant(MISTAKES[job.command][name], pair), reference)
            if not right.passed:
                wrong = wrong._replace(outputs=NOTHING, gradients=NOTHING)
            results.append(wrong._replace(mistake=name))
    jax.clear_caches()  # hundreds of programs in one process exhaust LLVM's memory
    return results


def spread(
    work: Callable[[Any, str], list[Any]], pieces: Sequence[Any], device: str = "cpu"
) -> Iterator[Any]:
    """On CPUs, in one process for each core, since compiling is nearly all the time."""
    if device != "cpu" or len(pieces) < 4:
        for piece in pieces:
            yield from work(piece, device)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context, _start) as pool:
        for future in as_completed([pool.submit(work, piece, device) for piece in pieces]):
            yield from future.result()


def _start() -> None:
    """A worker keeps to one core, and off any GPU, whose memory it would claim."""
    jax.config.update("jax_platforms", "cpu")
    torch.set_num_threads(1)
