import threading
import time

import pytest

from miniplm.runtime.ahead import ahead


def test_items_come_in_order_and_the_thread_ends():
    before = threading.active_count()
    with ahead(iter(range(1000)), 2) as items:
        assert list(items) == list(range(1000))
    assert threading.active_count() == before


def test_no_more_is_made_than_may_wait():
    made = []

    def items():
        for number in range(100):
            made.append(number)
            yield number

    with ahead(items(), 2) as taken:
        assert next(taken) == 0
        time.sleep(0.2)
        assert len(made) <= 4  # one taken, two waiting, one that waits to wait


def test_an_error_comes_behind_what_was_made_before_it():
    def items():
        yield 1
        raise ValueError("no more")

    with ahead(items(), 2) as taken:
        assert next(taken) == 1
        with pytest.raises(ValueError, match="no more"):
            next(taken)


def test_leaving_early_stops_the_thread():
    before = threading.active_count()
    with ahead(iter(range(10**9)), 2) as taken:
        assert next(taken) == 0
    assert threading.active_count() == before
