import threading

import pytest

from miniplm.runtime.prefetch import prefetched


def test_items_come_in_order():
    assert list(prefetched(range(100))) == list(range(100))
    assert list(prefetched([])) == []


def test_an_error_comes_at_its_place():
    def items():
        yield 1
        raise KeyError("third")

    found = []
    with pytest.raises(KeyError, match="third"):
        found.extend(prefetched(items()))
    iterator = prefetched(items())
    assert next(iterator) == 1


def test_at_most_depth_items_wait_and_leaving_stops_the_thread():
    made = []

    def items():
        for number in range(1000):
            made.append(number)
            yield number

    before = threading.active_count()
    for item in prefetched(items(), depth=3):
        if item == 10:
            break
    assert len(made) <= 11 + 3 + 2
    assert threading.active_count() == before
