"""Many cases, and the known mistakes with their controls, in parallel processes."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import NamedTuple

import jax
import torch

from . import jax_side
from .cases import Case
from .mistakes import MISTAKES
from .verify import Result, verify


class Job(NamedTuple):
    """What one worker does in one go: cases that share a program, or mistakes in one case."""

    cases: list[Case]
    dtype: str
    mistakes: tuple[str, ...] = ()


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
    """Results as they come; on CPUs, one process each, since compiling is nearly all the time."""
    if device != "cpu" or len(work) < 4:
        for job in work:
            yield from _work(job, device)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context, _start) as pool:
        for future in as_completed([pool.submit(_work, job, device) for job in work]):
            yield from future.result()


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
