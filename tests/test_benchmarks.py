"""The harness of the benchmarks, and that every bench names functions that are there."""

import importlib
import mmap
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from benchmarks.harness import Bench, Clock, Contender, Result, Run, measure
from benchmarks.plot import ratios_svg
from benchmarks.setting import Setting

STAGES = (
    "machine", "tokenization", "scoring", "output_layer", "selection", "selection_policies",
    "export", "generation", "training", "methods",
)  # fmt: skip


def run(amount, seconds):
    return Run(amount, seconds, 0, 10, 5, {})


BENCH = Bench(
    name="copying", unit="bytes", baseline="theirs",
    contenders={"theirs": Contender("machine:memory_copy"), "ours": Contender("machine:none")},
    arguments={"num_bytes": 1 << 20},
)  # fmt: skip


def test_ratios_are_taken_round_by_round():
    # the machine is three times as slow in the last round; the ratio does not see that
    runs = {
        "theirs": [run(10, 1), run(10, 1), run(10, 3)],
        "ours": [run(10, 0.5), run(10, 0.5), run(10, 1.5)],
    }
    result = Result(BENCH, runs)
    assert result.ratio("ours") == pytest.approx(2.0)
    assert result.ratio("theirs") == pytest.approx(1.0)
    assert result.rate("ours") == pytest.approx(20)
    assert result.spread("theirs") == pytest.approx((10 - 10 / 3) / 10)
    assert result.ratio("theirs", to="ours") == pytest.approx(0.5)
    assert result.peak("ours") == 10


def test_contenders_take_turns_in_processes_of_their_own():
    said = []
    bench = Bench(
        name="copying", unit="bytes", baseline="a", arguments={"num_bytes": 1 << 20},
        contenders={name: Contender("machine:memory_copy") for name in "ab"},
    )  # fmt: skip
    result = measure(bench, 2, said.append)
    assert [message.split(":")[1].split()[0] for message in said] == ["a", "b", "a", "b"]
    for runs in result.runs.values():
        assert len(runs) == 2
        for one in runs:
            assert one.amount == 1 << 20
            assert one.seconds > 0
            assert one.memory_peak > 1 << 21


def test_what_is_only_checked_runs_once():
    contenders = {"a": Contender("machine:memory_copy")}
    bench = Bench("copying", "bytes", "a", contenders, {"num_bytes": 1 << 20}, once=True)
    assert len(measure(bench, 3, lambda _: None).runs["a"]) == 1


def test_a_contender_that_fails_says_why():
    with pytest.raises(RuntimeError, match="has no attribute 'none'"):
        measure(BENCH, 1, lambda _: None)


def test_the_clock_counts_only_the_memory_of_its_block():
    def touch(num_bytes):  # mapped by hand: an allocator may hand out what it kept
        with mmap.mmap(-1, num_bytes) as pages:
            pages.write(b"x" * num_bytes)

    touch(64 << 20)
    with Clock() as clock:
        touch(32 << 20)
    assert 24 << 20 <= clock.memory_peak - clock.memory_before < 80 << 20


def test_the_plot_is_well_formed():
    runs = {"theirs": [run(10, 1)], "ours": [run(10, 0.1)]}
    picture = ET.fromstring(ratios_svg([Result(BENCH, runs)]))
    words = "".join(picture.itertext())
    assert "10.00x" in words
    assert "copying" in words


@pytest.mark.parametrize("size", ["small", "full"])
@pytest.mark.parametrize("stage", STAGES)
def test_every_bench_names_functions_that_are_there(stage, size, tmp_path):
    benches = importlib.import_module(f"benchmarks.{stage}").benches(
        Setting(Path("data"), tmp_path, size, Path("run"))
    )
    assert benches
    for bench in benches:
        assert bench.baseline in bench.contenders
        functions = [contender.function for contender in bench.contenders.values()]
        for name in [*functions, *([bench.prepare] if bench.prepare else [])]:
            module, _, function = name.partition(":")
            assert callable(getattr(importlib.import_module(f"benchmarks.{module}"), function))
