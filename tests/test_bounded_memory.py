"""The tokenise stage in less memory than its corpus takes, whatever the corpus is made of."""

import json
import subprocess
import sys

import pytest

from miniplm.data.tokenizer import train_tokenizer

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the limit counts what Linux counts: written private memory"
)

# After imports, allow so much more. Address space would count what libraries only reserve.
STAGE = """
import json, resource, sys
from pathlib import Path
import awkward, transformers
from miniplm.data.documents import CorpusConfig
from miniplm.data.packing import PackingConfig
from miniplm.data.splits import SplitsConfig
from miniplm.data.tokenization import TokenizationConfig, tokenize_corpus
from miniplm.data.tokenizer import TokenizerConfig, load_tokenizer

folder, max_length, limit = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
load_tokenizer(folder / "tokenizer")
status = Path("/proc/self/status").read_text().splitlines()
used = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (used + limit, used + limit))
outcome = tokenize_corpus(
    TokenizationConfig(
        corpus=CorpusConfig(paths=(str(folder / "corpus"),)),
        splits=SplitsConfig(reference=0, held_out=0),
        tokenizer=TokenizerConfig(name=str(folder / "tokenizer")),
        packing=PackingConfig(max_length=max_length, sequences_per_shard=5000),
        seed=1,
    ),
    folder / "out",
)
print(json.dumps({**outcome.counts, **outcome.facts["splits"]["candidates"]}))
"""


def run_stage(folder, max_length, limit):
    environment = {
        "PYTHONPATH": ":".join(sys.path),
        "HF_HUB_OFFLINE": "1",
        "RAYON_NUM_THREADS": "2",  # each thread of these reserves memory
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
    }
    command = [sys.executable, "-c", STAGE, str(folder), str(max_length), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "out").mkdir()
    train_tokenizer(["some words in a row, and more.\n"] * 20, 300, tmp_path / "tokenizer")
    return tmp_path


def write_lines(path, num_bytes):
    words = "some words in a row, {} and more.\n"
    texts = ["".join(words.format(n * m) for m in range(30)) for n in range(1000)]
    chunk = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    with path.open("w") as file:
        for _ in range(-(-num_bytes // len(chunk))):
            file.write(chunk)


def test_a_corpus_larger_than_the_limit(folder):
    limit = 320 << 20
    write_lines(folder / "corpus" / "a.jsonl", limit + (1 << 20))
    counts = run_stage(folder, 64, limit)
    assert counts["documents"] % 1000 == 0
    assert counts["num_sequences"] > 1_000_000


def test_a_document_that_would_not_fit_if_it_were_encoded_whole(folder):
    limit = 450 << 20  # `tokenizers` takes more than 600 MiB to encode it in one go
    words = json.dumps("some words in a row, 12345 and more.\n" * 1000)[1:-1]
    with (folder / "corpus" / "a.jsonl").open("w") as file:
        file.write(f'{{"text": "{words * 600}"}}\n')
    counts = run_stage(folder, 1024, limit)
    assert counts["documents"] == 1
    assert counts["bytes"] == 600 * 37_000
