"""What it costs to turn text into tokens, and tokens into those of another tokenizer."""

from miniplm.data.documents import estimate_bytes
from miniplm.data.text_costs import text_costs
from miniplm.planning.basis import Basis
from miniplm.planning.cost import Cost, Load

_RETOKENIZED_PER_SECOND = 1e6
_VIEWED_BYTES_PER_SECOND = 350e6


def tokenize_cost(basis: Basis, _: str) -> Cost:
    """Of tokenising the corpus, or of looking through its token shards."""
    recipe, num_tokens = basis.recipe, sum(basis.corpora.splits.values())
    size = estimate_bytes(recipe.corpus)
    if recipe.corpus.source == "tokens":
        views = Load(size / _VIEWED_BYTES_PER_SECOND)
        note = f"{size / 1e6:,.1f} MB of ids, which stay where they are"
        return Cost(num_tokens, load=lambda: views, note=note)
    if recipe.held_out_corpus:
        size += estimate_bytes(recipe.held_out_corpus)

    def load() -> Load:
        return Load(text_costs(recipe.corpus, recipe.tokenizer).seconds(size))

    on_disk = num_tokens * basis.bytes_per_id()
    return Cost(num_tokens, num_bytes=on_disk, load=load, note=f"{size / 1e6:,.1f} MB of text")


def retokenization_cost(basis: Basis, name: str) -> Cost:
    """Of a corpus in the tokens of another family."""
    return _retokenized(basis, name, basis.corpora.of(name))


def retokenized_held_out_cost(basis: Basis, name: str) -> Cost:
    """Of the held-out text in the tokens of a corpus of another family."""
    return _retokenized(basis, name, basis.corpora.held_out(name))


def _retokenized(basis: Basis, name: str, num_tokens: float) -> Cost:
    load = Load(num_tokens / _RETOKENIZED_PER_SECOND)
    return Cost(num_tokens, num_bytes=num_tokens * basis.bytes_per_id(name), load=lambda: load)
