"""Executors: map a function over shards. Stages do not know which one runs them."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

Executor = Callable[[Callable[[ItemT], ResultT], Iterable[ItemT]], Iterator[ResultT]]
"""`executor(function, items)` gives the results in the order of the items."""


def serial(function: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> Iterator[ResultT]:
    """One item after another, in this process."""
    return map(function, items)


def threads(
    function: Callable[[ItemT], ResultT], items: Iterable[ItemT], num_workers: int | None = None
) -> Iterator[ResultT]:
    """Items in parallel threads, one per core if not told otherwise.

    For work inside libraries that let other threads run: reading, copying, hashing, writing. It
    starts at once where processes take a second. After an error no further item is begun.
    """
    todo = list(items)
    workers = min(num_workers or os.cpu_count() or 1, len(todo))
    if workers <= 1:
        yield from serial(function, todo)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(function, todo)
    finally:
        pool.shutdown(cancel_futures=True)


def processes(
    function: Callable[[ItemT], ResultT], items: Iterable[ItemT], num_workers: int | None = None
) -> Iterator[ResultT]:
    """Items in parallel processes, one per core if not told otherwise.

    Function, items and results have to be picklable. An error in a worker is raised here.
    """
    todo = list(items)
    workers = min(num_workers or os.cpu_count() or 1, len(todo))
    if workers <= 1:
        yield from serial(function, todo)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(function, todo)
