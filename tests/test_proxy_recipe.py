"""Predicted scores on the road: what is refused, what is kept, what is redone."""

import pytest

from conftest import tiny_recipe
from miniplm.errors import ArtefactError
from miniplm.pipeline import run
from miniplm.planning import make_plan
from miniplm.recipe import make_recipe
from miniplm.road.road import Road


def with_proxy(corpus_folder, run_dir, **proxy):
    content = tiny_recipe(corpus_folder, run_dir)
    del content["students"]["plain"]
    content["scoring"] = {
        "dtype": "float32",
        "proxy": {"share": 0.6, "features": "hidden", **proxy},
    }
    return make_recipe(content, "proxy")


def test_selecting_by_poor_predictions_is_refused_and_the_scores_are_kept(
    corpus_folder, tmp_path, caplog
):
    recipe = with_proxy(corpus_folder, tmp_path / "run", min_kappa=1.0)
    caplog.set_level("INFO", "miniplm")
    with pytest.raises(ArtefactError, match=r"scoring\.proxy\.allow_low_agreement=true"):
        run(recipe)
    for said in ("proxy: the teacher scored", "Spearman's", "top 25% inside each domain", "bar 1"):
        assert said in caplog.text
    scores = (tmp_path / "run/score/teacher/manifest.json").stat().st_mtime_ns
    allowed = with_proxy(corpus_folder, tmp_path / "run", min_kappa=1.0, allow_low_agreement=True)
    manifests = {each.stage: each for each in run(allowed)}
    assert (tmp_path / "run/score/teacher/manifest.json").stat().st_mtime_ns == scores
    assert manifests["select/refined"].counts["kept"] > 10
    facts = manifests["score/teacher"].facts["proxy"]
    assert facts["flops"]["reference"] == manifests["score/reference"].flops
    assert manifests["score/teacher"].flops < facts["flops"]["teacher_on_everything"]
    page = (tmp_path / "run/report/index.html").read_text()
    assert "under the bar, allowed" in page
    assert "which scoring.proxy.allow_low_agreement let through" in page


def test_selecting_by_group_is_judged_inside_the_groups_of_the_run(corpus_folder, tmp_path, caplog):
    content = tiny_recipe(corpus_folder, tmp_path / "run")
    content["scoring"] = {"dtype": "float32", "proxy": {"share": 0.6, "features": "hidden"}}
    proxy = content["scoring"]["proxy"]
    content |= {"students": {}, "grouping": {"num_groups": 2, "num_components": 4}}
    content["selections"] = {"refined": {"within": "group"}}
    proxy["min_kappa_within_domains"] = 1.0
    with pytest.raises(ArtefactError, match=r"top 50% inside each group.*min_kappa_within_domains"):
        run(make_recipe(content, "groups"))
    proxy["allow_low_agreement"] = True
    run(make_recipe(content, "groups"))
    assert "top 50% inside each group" in caplog.text
    page = (tmp_path / "run/report/index.html").read_text()
    assert "<td>inside each group</td>" in page


def specs(recipe):
    return {step.name: step.spec.fingerprint for step in Road(recipe).steps}


def test_the_share_redoes_the_teacher_and_not_the_reference(corpus_folder, tmp_path):
    one, other = (specs(with_proxy(corpus_folder, tmp_path, share=share)) for share in (0.1, 0.2))
    assert one["score/teacher"] != other["score/teacher"]
    assert one["score/reference"] == other["score/reference"]
    bar = specs(with_proxy(corpus_folder, tmp_path, share=0.1, min_kappa=0.9))
    assert bar["score/teacher"] == one["score/teacher"]
    ngrams = specs(with_proxy(corpus_folder, tmp_path, share=0.1, features="ngrams"))
    plain = specs(make_recipe(tiny_recipe(corpus_folder, tmp_path), "plain"))
    assert ngrams["score/reference"] == plain["score/reference"] != one["score/reference"]


def test_a_plan_counts_the_sample_and_the_head(corpus_folder, tmp_path):
    plain = make_recipe(tiny_recipe(corpus_folder, tmp_path), "plain")
    whole, some = (
        {step.name: step for step in make_plan(recipe).steps}
        for recipe in (plain, with_proxy(corpus_folder, tmp_path, share=0.1))
    )
    teacher, sampled = whole["score/teacher"], some["score/teacher"]
    assert sampled.num_tokens == pytest.approx(0.1 * teacher.num_tokens)
    assert 0.1 * teacher.flops < sampled.flops < 0.11 * teacher.flops
    assert some["score/reference"].flops == whole["score/reference"].flops
    assert some["score/reference"].num_bytes > whole["score/reference"].num_bytes
