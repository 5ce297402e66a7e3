"""Many cases, and the known mistakes with their controls, in parallel processes."""

import functools
import multiprocessing
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, NamedTuple

import jax
import torch

from .backends import jax as jax_side
from .cases import Case
from .frameworks import voices
from .layers import Result, verify
from .mutants import texts as document_mistakes
from .mutants import trainings as training_mistakes
from .mutants.layers import MISTAKES
from .pair import Compared, System, judge_system, run_reference
from .texts import models as rows
from .texts import optimisers as trajectories


class Job(NamedTuple):
    """What one worker does in one go: cases that share a program, or mistakes in one case."""

    cases: list[Case]
    dtype: str
    mistakes: tuple[str, ...] = ()


class SystemJob(NamedTuple):
    """A system of a command, by its number, since functions do not travel between processes."""

    command: str
    system: int
    dtype: str
    mistakes: tuple[str, ...] = ()


SYSTEMS = {"documents": rows.systems, "training": trajectories.systems}
PLANTED = {"documents": document_mistakes.MISTAKES, "training": training_mistakes.MISTAKES}


def jobs(cases: Sequence[Case], dtypes: Sequence[str] | None, mistakes: Sequence[str]) -> list[Job]:
    """The work in pieces, the long ones first; `dtypes` stands in for each case's own."""
    sharing: dict[tuple[str, Case], list[Case]] = {}
    for case in cases:
        for dtype in dtypes or case.dtypes:
            sharing.setdefault((dtype, case.program), []).append(case)
    work = [Job(group, dtype) for (dtype, _), group in sharing.items()]
    work.sort(key=lambda job: job.cases[0].second_order, reverse=True)
    planted: dict[tuple[Case, str], list[str]] = {}
    for name in mistakes:
        planted.setdefault((MISTAKES[name].case, MISTAKES[name].dtype), []).append(name)
    groups = [Job([case], dtype, tuple(names)) for (case, dtype), names in planted.items()]
    return sorted(groups, key=lambda job: -len(job.mistakes)) + work


def run_all(work: Sequence[Job], device: str = "cpu") -> Iterator[Result]:
    """Results of the case table, as they come."""
    return _spread(_work, work, device)


def system_jobs(command: str, rows: Collection[str]) -> list[SystemJob]:
    """Every system of these rows in each of its dtypes, the long ones first.

    In float64 with its known mistakes.
    """
    planted = lambda *where: tuple(
        name
        for name, mistake in PLANTED[command].items()
        if (mistake.row, mistake.system, "float64") == where
    )
    found = _systems(command)
    work = [
        SystemJob(command, i, dtype, planted(system.row, system.name, dtype))
        for i, system in enumerate(found)
        for dtype in system.dtypes
        if system.row in rows
    ]
    return sorted(work, key=lambda job: (-found[job.system].steps, -len(job.mistakes)))


def run_systems(work: Sequence[SystemJob], device: str = "cpu") -> Iterator[Compared]:
    """Results of systems, as they come."""
    return _spread(run_system, work, device)


def run_voices(work: Sequence[voices.Job]) -> Iterator[voices.Voiced]:
    """What everyone says of every network, as it comes."""
    return _spread(voices.listen, work, "cpu")


def _spread(
    work: Callable[[Any, str], list[Any]], pieces: Sequence[Any], device: str
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


def run_system(job: SystemJob, device: str = "cpu") -> list[Compared]:
    """A system, then its mistakes; none counts as seen if the system fails without any."""
    system = _systems(job.command)[job.system]
    reference = run_reference(system, job.dtype, device=device)
    results = [judge_system(system, reference)]
    for name in job.mistakes:
        result = judge_system(system, reference, PLANTED[job.command][name].wrong(system.jax))
        seen = result.wrong if results[0].passed else []
        results.append(result._replace(mistake=name, wrong=seen))
    jax.clear_caches()
    return results


@functools.cache
def _systems(command: str) -> list[System]:
    return SYSTEMS[command]()


def _start() -> None:
    """A worker keeps to one core, and off any GPU, whose memory it would claim."""
    jax.config.update("jax_platforms", "cpu")
    torch.set_num_threads(1)


def _work(job: Job, device: str) -> list[Result]:
    if job.mistakes:
        results = _plant(job, device)
    else:
        program = jax_side.program(job.cases[0].program)
        results = [verify(case, job.dtype, program=program, device=device) for case in job.cases]
    jax.clear_caches()  # hundreds of programs in one process exhaust LLVM's memory
    return results


def _plant(job: Job, device: str) -> list[Result]:
    """The case with each mistake; none counts as seen if the case fails without any."""
    (case,) = job.cases
    sound = verify(case, job.dtype, device=device).status == "pass"
    results = []
    for name in job.mistakes:
        result = verify(case, job.dtype, apply=MISTAKES[name].apply, device=device)
        results.append(result._replace(mistake=name, wrong=result.wrong if sound else []))
    return results
