import logging
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from miniplm.errors import ArtefactError
from miniplm.runtime import progress as progress_module
from miniplm.runtime.allocator import keep_memory
from miniplm.runtime.buffers import Buffers
from miniplm.runtime.executors import processes, serial, threads
from miniplm.runtime.log import configure_logging, logger
from miniplm.runtime.open_files import allow_open_files


def double(number):
    return 2 * number, os.getpid()


def fail_at_three(number):
    if number == 3:
        raise ValueError("three")
    return number


def test_executors_give_results_in_the_order_of_the_items():
    here = [result for result, _ in serial(double, range(5))]
    there = list(processes(double, range(5), num_workers=2))
    assert [result for result, _ in there] == here == [0, 2, 4, 6, 8]
    assert all(pid != os.getpid() for _, pid in there)


def test_one_item_needs_no_second_process():
    assert list(processes(double, [4])) == [(8, os.getpid())]


def test_an_error_in_a_worker_is_raised_here():
    with pytest.raises(ValueError, match="three"):
        list(processes(fail_at_three, range(5), num_workers=2))


def test_threads_give_results_in_order_and_begin_nothing_after_an_error():
    assert [result for result, _ in threads(double, range(5), num_workers=2)] == [0, 2, 4, 6, 8]
    begun = []

    def fail_at_first(number):
        begun.append(number)
        if number == 0:
            raise ValueError("first")
        return number

    with pytest.raises(ValueError, match="first"):
        list(threads(fail_at_first, [0, *range(1, 10_000)], num_workers=2))
    assert len(begun) < 10_000


def test_buffers_are_each_threads_own():
    buffers = Buffers()
    here = buffers.get("sum", 4)
    assert buffers.get("sum", 3).base is here.base
    there = next(iter(threads(lambda _: buffers.get("sum", 4), [0, 1], num_workers=2)))
    assert not np.shares_memory(here, there)
    assert buffers.get("sum", 4, np.int64).dtype == np.int64


def test_progress_is_silent_without_a_terminal(capfd):
    with progress_module.progress("work", 10, "tokens") as advance:
        advance(5, note="loss 3")
    assert capfd.readouterr() == ("", "")


def test_progress_shows_rate_and_time_left_on_a_terminal(capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with progress_module.progress("score teacher", 2000, "tokens") as advance:
        advance(1000)
        advance(500, note="loss 3.210")
    shown = capfd.readouterr().err
    for piece in ("score teacher", "75%", "tokens/s", "loss 3.210", "0:00:0"):
        assert piece in shown


def test_numbers_are_short():
    assert [progress_module._short(n) for n in (3.21, 42, 12_345, 3.5e6)] == [
        "3.2", "42", "12.3k", "3.5M",
    ]  # fmt: skip


def test_logging_is_set_up_once():
    configure_logging()
    configure_logging(verbose=True)
    assert len([h for h in logger.handlers if getattr(h, "from_miniplm", False)]) == 1
    assert logger.level == logging.DEBUG


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
def test_the_limit_of_open_files_is_raised_as_far_as_it_goes(monkeypatch):
    limits = [(1024, 4096)]
    monkeypatch.setattr("resource.getrlimit", lambda _: limits[-1])
    monkeypatch.setattr("resource.setrlimit", lambda _, pair: limits.append(pair))
    allow_open_files(100)
    assert limits == [(1024, 4096)]
    allow_open_files(2000)
    assert limits[-1] == (2256, 4096)
    with pytest.raises(ArtefactError, match=r"5,000 token shards .* the system allows 4,096 files"):
        allow_open_files(5000)


def test_the_allocator_keeps_its_memory_or_is_left_alone(monkeypatch):
    calls = []

    def mallopt(key, value):
        calls.append((key, value))
        return int(not (key == -3 and value > largest))

    monkeypatch.setattr("ctypes.CDLL", lambda _: SimpleNamespace(mallopt=mallopt))
    monkeypatch.setattr("sys.platform", "linux")
    for largest, expected in ((1 << 40, 3), (32 << 20, 4), (0, 2)):
        calls.clear()
        assert keep_memory() == (largest > 0)
        assert len(calls) == expected
