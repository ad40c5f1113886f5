import json

import pytest

from miniplm.errors import ArtefactError, StageNotReadyError
from miniplm.manifest import (
    Outcome,
    StageSpec,
    atomic_path,
    changed_fields,
    fingerprint,
    is_complete,
    read_manifest,
    require_manifest,
)
from miniplm.stage_runner import run_stage

SPEC = StageSpec("score/teacher", {"dtype": "float32"}, {"shards": "abc"})


def work(folder):
    (folder / "output").write_text("made")
    return Outcome(counts={"sequences": 3}, num_tokens=7, flops=1.5, facts={"x": 1})


def test_a_complete_stage_is_not_done_again(tmp_path):
    first = run_stage(tmp_path / "s", SPEC, work)
    again = run_stage(tmp_path / "s", SPEC, lambda _: pytest.fail("was done again"))
    assert first == again
    assert (first.num_tokens, first.flops, first.counts) == (7, 1.5, {"sequences": 3})
    assert is_complete(tmp_path / "s", SPEC)
    assert {"python", "torch", "miniplm"} <= set(first.versions)


def test_pieces_of_an_unfinished_stage_are_kept_for_the_same_spec_only(tmp_path):
    def dies(folder):
        (folder / "piece").write_text("done")
        (folder / "deeper").mkdir()
        (folder / "deeper/.next.123.tmp").write_text("ha")
        (folder / ".step-1.tmp").mkdir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path / "s", SPEC, dies)
    assert read_manifest(tmp_path / "s") is None
    seen = []

    def look(folder):
        seen.append((folder / "piece").exists())
        assert not list(folder.rglob(".*.tmp"))
        return Outcome()

    other = StageSpec("score/teacher", {"dtype": "bfloat16"}, {"shards": "abc"})
    run_stage(tmp_path / "s", SPEC, look)
    run_stage(tmp_path / "t", SPEC, look)
    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path / "u", SPEC, dies)
    run_stage(tmp_path / "u", other, look, set_aside=tmp_path / "aside")
    assert seen == [True, False, False]


def test_half_done_work_of_another_recipe_is_set_aside_and_gone_on_with_later(tmp_path):
    """A complete, B interrupted, back to A, back to B: nothing is lost and nothing done twice."""
    other = StageSpec("score/teacher", {"dtype": "bfloat16"}, {"shards": "abc"})
    aside = tmp_path / "superseded"

    def dies(folder):
        (folder / "piece").write_text("half")
        raise KeyboardInterrupt

    run_stage(tmp_path / "run/s", SPEC, work, set_aside=aside)
    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path / "run/s", other, dies, set_aside=aside)
    again = lambda _: pytest.fail("was done again")  # noqa: E731
    run_stage(tmp_path / "run/s", SPEC, again, set_aside=aside)

    def goes_on(folder):
        assert (folder / "piece").read_text() == "half"
        return Outcome()

    run_stage(tmp_path / "run/s", other, goes_on, set_aside=aside)
    assert is_complete(tmp_path / "run/s", other)


def test_a_kill_at_every_file_operation_leaves_a_stage_that_goes_on(tmp_path, monkeypatch):
    """Each rename, unlink and rmtree in turn is the last thing the process does."""
    import shutil
    from pathlib import Path

    other = StageSpec("score/teacher", {"dtype": "bfloat16"}, {"shards": "abc"})

    def makes(folder):
        (folder / "checkpoints").mkdir(exist_ok=True)
        (folder / "checkpoints/one").write_text("1")
        (folder / "output").write_text("made")
        return Outcome(obsolete=("checkpoints",))

    class Killed(BaseException):
        pass

    def killed_at(number, when):
        count = 0

        def counted(original):
            def call(*arguments, **options):
                nonlocal count
                count += 1
                if count == number and when == "before":
                    raise Killed
                result = original(*arguments, **options)
                if count == number:
                    raise Killed
                return result

            return call

        with monkeypatch.context() as patch:
            for owner, name in ((Path, "rename"), (Path, "replace"), (shutil, "rmtree")):
                patch.setattr(owner, name, counted(getattr(owner, name)))
            run = tmp_path / f"{number}-{when}" / "run/s"
            aside = tmp_path / f"{number}-{when}" / "superseded"
            done = False
            try:
                run_stage(run, SPEC, makes, set_aside=aside)
                run_stage(run, other, makes, set_aside=aside)
                run_stage(run, SPEC, makes, set_aside=aside)
                done = True
            except Killed:
                pass
        for spec in (SPEC, other, SPEC):
            run_stage(run, spec, makes, set_aside=aside)
            assert is_complete(run, spec)
            assert (run / "output").read_text() == "made"
        return done

    for when in ("before", "after"):
        number = 1
        while not killed_at(number, when):
            number += 1
        assert number > 8


def test_what_the_recipe_no_longer_asks_for_is_set_aside_and_comes_back(tmp_path):
    other = StageSpec("score/teacher", {"dtype": "bfloat16"}, {"shards": "abc"})
    aside = tmp_path / "superseded"
    run_stage(tmp_path / "run/s", SPEC, work, set_aside=aside)
    run_stage(tmp_path / "run/s", other, lambda _: Outcome(), set_aside=aside)
    assert not (tmp_path / "run/s/output").exists()
    back = run_stage(
        tmp_path / "run/s", SPEC, lambda _: pytest.fail("was done again"), set_aside=aside
    )
    assert back.fingerprint == SPEC.fingerprint
    assert (tmp_path / "run/s/output").read_text() == "made"


def test_without_a_place_aside_other_output_is_refused(tmp_path):
    run_stage(tmp_path / "s", SPEC, work)
    other = StageSpec("score/teacher", {"dtype": "bfloat16"}, {"shards": "abc"})
    with pytest.raises(ArtefactError, match="made with another config"):
        run_stage(tmp_path / "s", other, work)
    assert (tmp_path / "s/output").exists()


def test_a_folder_of_someone_elses_files_is_refused_and_untouched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ArtefactError, match="not from an unfinished stage"):
        run_stage(tmp_path, SPEC, work)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_fingerprints_depend_on_config_inputs_and_kind_but_not_on_order_or_instance():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    base = SPEC.fingerprint
    assert StageSpec("score/reference", SPEC.config, SPEC.inputs).fingerprint == base
    assert StageSpec("train/teacher", SPEC.config, SPEC.inputs).fingerprint != base
    assert StageSpec("score/teacher", {"dtype": "x"}, SPEC.inputs).fingerprint != base
    assert StageSpec("score/teacher", SPEC.config, {"shards": "abd"}).fingerprint != base


def test_a_damaged_manifest_says_what_to_do(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ArtefactError, match=r"damaged.*Delete the folder"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"stage": "x"}))
    with pytest.raises(ArtefactError, match="damaged"):
        read_manifest(tmp_path)
    with pytest.raises(StageNotReadyError, match="Run this first"):
        require_manifest(tmp_path / "nowhere", "Run this first.")


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    def interrupted():
        with atomic_path(tmp_path / "file") as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_changed_fields_are_named_with_both_values():
    old = {"a": {"lr": 1, "same": 2}, "gone": 3}
    assert changed_fields(old, {"a": {"lr": 5, "same": 2}}) == ["a.lr: 1 -> 5", "gone: 3 -> None"]
    assert changed_fields({"recipe": "a: 1\nb: 2"}, {"recipe": "a: 1\nb: 3"}) == ["recipe"]
