"""What goes to the hub, and what never does. No network: the hub is a fake that is passed in."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from huggingface_hub.errors import LocalTokenNotFoundError, OfflineModeIsEnabled

import miniplm
from miniplm.cli import main
from miniplm.errors import HubError, StageNotReadyError
from miniplm.publishing.hub import push
from miniplm.publishing.parcel import corpus_parcel, student_parcel


class FakeHub:
    """Repositories by kind and name, whether they are private, and what was committed."""

    def __init__(self, private=()):
        self.private = dict(private)
        self.commits = []
        self.error = None

    def whoami(self):
        if self.error:
            raise self.error
        return {"name": "someone"}

    def repo_exists(self, repo_id, *, repo_type):
        return (repo_type, repo_id) in self.private

    def repo_info(self, repo_id, *, repo_type):
        return type("Info", (), {"private": self.private[repo_type, repo_id]})

    def create_repo(self, repo_id, *, repo_type, private):
        self.private[repo_type, repo_id] = private

    def create_commit(self, repo_id, operations, *, commit_message, repo_type):
        files = {one.path_in_repo: one.path_or_fileobj for one in operations}
        self.commits.append((repo_type, repo_id, commit_message, files))


MODEL = {
    "README.md": "# a model", "config.json": "{}", "model.safetensors": "0123456789",
    "tokenizer.json": "{}", "tokenizer_config.json": "{}",
}  # fmt: skip
CORPUS = {
    "README.md": "# a corpus", "data_0.parquet": "PAR1", "data_1.parquet": "PAR1",
    "tokenizer/tokenizer.json": "{}",
}  # fmt: skip


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


MANIFEST = (
    '{"stage": "", "fingerprint": "", "config": {}, "inputs": {}, "counts": {}, "num_tokens": 0,'
    '"flops": 0, "facts": {}, "seconds": 0, "finished": "", "versions": {}}'
)


@pytest.fixture
def run_dir(tmp_path):
    run = tmp_path / "run"
    write(run / "train/small/model", MODEL)
    write(run / "train/small", {"manifest.json": MANIFEST, "metrics.jsonl": "{}"})
    write(run / "train/small/checkpoints/step-9", {"state.json": "{}"})
    write(run / "export-input_ids/refined", {**CORPUS, "manifest.json": MANIFEST})
    return run


def test_a_student_goes_out_and_nothing_else(run_dir):
    hub = FakeHub()
    address = push(student_parcel(run_dir, "small"), "me/small", private=True, api=hub)
    ((kind, repo, message, files),) = hub.commits
    assert (repo, kind) == ("me/small", "model")
    assert message == "Upload the model 'small' with miniplm"
    assert files == {name: str(run_dir / "train/small/model" / name) for name in MODEL}
    assert hub.private == {("model", "me/small"): True}
    assert address == "https://huggingface.co/me/small"


def test_a_corpus_goes_out_in_one_form_and_with_a_warning(run_dir):
    hub = FakeHub()
    parcel = corpus_parcel(run_dir, "refined")
    push(parcel, "me/refined", private=False, api=hub)
    ((kind, _, _, files),) = hub.commits
    assert kind == "dataset"
    assert sorted(files) == sorted(CORPUS)
    assert hub.private == {("dataset", "me/refined"): False}
    assert "holds the text of its source corpus" in parcel.warning


@pytest.mark.parametrize(
    "name",
    ["optimizer.safetensors", "training_args.bin", "metrics.jsonl", ".env", "tokenizer/x.json",
     "step-9/state.json", "model.safetensors.orig"],
)  # fmt: skip
def test_a_folder_with_anything_else_in_it_is_refused(run_dir, name):
    write(run_dir / "train/small/model", {name: "x"})
    with pytest.raises(HubError, match=r"which miniplm did not write there; nothing is sent"):
        student_parcel(run_dir, "small")


@pytest.mark.parametrize("name", ["sub/data_0.parquet", "data_0.pkl", "tokenizer/deep/vocab.json"])
def test_a_corpus_with_anything_else_in_it_is_refused(run_dir, name):
    write(run_dir / "export-input_ids/refined", {name: "x"})
    with pytest.raises(HubError, match="did not write there"):
        corpus_parcel(run_dir, "refined", "input_ids")


@pytest.mark.parametrize("name", ["README.md", "config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("kind", ["folder", "home", "token"])
def test_paths_and_tokens_never_go_out(run_dir, monkeypatch, name, kind):
    monkeypatch.setenv("HOME", "/home/somebody")
    text = {
        "folder": f'{{"path": "{run_dir}/train"}}',
        "home": '{"cache": "/home/somebody/.cache"}',
        "token": '{"token": "hf_' + "a1B2" * 8 + '"}',
    }[kind]
    write(run_dir / "train/small/model", {name: text})
    what = "access token" if kind == "token" else "a folder of this machine"
    with pytest.raises(HubError, match=what):
        student_parcel(run_dir, "small")


@pytest.mark.parametrize("private", [True, False])
def test_a_repository_seen_by_others_than_asked_for_gets_nothing(run_dir, private):
    hub = FakeHub({("model", "me/small"): not private})
    with pytest.raises(HubError, match="nothing was sent"):
        push(student_parcel(run_dir, "small"), "me/small", private=private, api=hub)
    assert hub.commits == []


def test_an_organisation_that_makes_repositories_public_gets_nothing(run_dir):
    hub = FakeHub()
    hub.create_repo = lambda repo_id, **_: hub.private.update({("model", repo_id): False})
    with pytest.raises(HubError, match="is public, but --private was asked for"):
        push(student_parcel(run_dir, "small"), "org/small", private=True, api=hub)
    assert hub.commits == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (LocalTokenNotFoundError("no token"), "there is no access token.*hf auth login"),
        (OfflineModeIsEnabled("offline mode"), "me/small: the hub cannot be reached"),
    ],
)
def test_what_goes_wrong_is_explained(run_dir, error, message):
    hub = FakeHub()
    hub.error = error
    with pytest.raises(HubError, match=message):
        push(student_parcel(run_dir, "small"), "me/small", private=True, api=hub)
    assert hub.private == {}


def test_what_is_not_there_is_not_sent(run_dir):
    with pytest.raises(StageNotReadyError, match="miniplm train RECIPE --only large"):
        student_parcel(run_dir, "large")
    with pytest.raises(StageNotReadyError, match=r"of train there is small in this run"):
        student_parcel(run_dir, "../train/small")
    with pytest.raises(StageNotReadyError, match=r"export RECIPE export.forms=\[megatron\]"):
        corpus_parcel(run_dir, "refined", "megatron")
    with pytest.raises(HubError, match=r"say which form .*there are: none"):
        corpus_parcel(run_dir, "other")
    for parcel in (student_parcel, corpus_parcel):
        with pytest.raises(HubError, match="there is no such folder; give the run_dir"):
            parcel(run_dir / "elsewhere", "small")


def test_a_retokenised_corpus_goes_out_from_where_it_is_made(run_dir):
    write(run_dir / "retokenize/new", {"manifest.json": MANIFEST})
    with pytest.raises(StageNotReadyError, match=r"retokenize RECIPE export.forms=\[input_ids\]"):
        corpus_parcel(run_dir, "new", "input_ids")
    write(run_dir / "retokenize-input_ids/new", {**CORPUS, "manifest.json": MANIFEST})
    assert sorted(corpus_parcel(run_dir, "new").names) == sorted(CORPUS)


def test_only_the_push_command_can_send():
    source = Path(miniplm.__file__).parent
    senders = ("miniplm.publishing.hub", "HfApi", "push_to_hub(", "create_commit", "upload_f")
    found = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if any(sender in path.read_text() for sender in senders)
    }
    assert found == {"cli.py", "publishing/hub.py"}


def command(run_dir, *words, said=None):
    arguments = ["push", str(run_dir), *words]
    return CliRunner().invoke(main, arguments, input=said)


@pytest.fixture
def hub(monkeypatch):
    fake = FakeHub()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: fake)
    return fake


def test_a_dry_run_says_what_would_go_out(run_dir, hub):
    result = command(run_dir, "student", "small", "--repo", "me/small", "--dry-run")
    assert result.exit_code == 0
    assert "10 B  model.safetensors" in result.output
    assert "5 files" in result.output
    assert "private model repository me/small" in result.output
    assert hub.commits == []
    assert hub.private == {}


def test_the_command_asks_before_it_sends(run_dir, hub):
    words = ["corpus", "refined", "--repo", "me/refined", "--public"]
    refused = command(run_dir, *words, said="n\n")
    assert refused.exit_code == 1
    assert hub.commits == []
    assert "PUBLIC dataset repository me/refined" in refused.output
    assert "warning: a refined corpus holds the text" in refused.output
    agreed = command(run_dir, *words, said="y\n")
    assert "https://huggingface.co/datasets/me/refined" in agreed.output
    assert hub.private == {("dataset", "me/refined"): False}


def test_yes_sends_privately_without_asking(run_dir, hub):
    result = command(run_dir, "student", "small", "--repo", "me/small", "--yes")
    assert result.exit_code == 0, result.output
    assert hub.private == {("model", "me/small"): True}
    assert len(hub.commits) == 1


@pytest.mark.parametrize("repo", ["small", "me/small/x", "../x", "me/"])
def test_a_repository_has_a_full_name(run_dir, repo):
    result = command(run_dir, "student", "small", "--repo", repo, "--dry-run")
    assert result.exit_code == 1
    assert "give user/name" in result.output
