from miniplm.data import text_costs
from miniplm.data.documents import CorpusConfig
from miniplm.data.tokenizer import TokenizerConfig


def test_a_corpus_is_read_and_a_tokenizer_trained_for_a_moment(corpus_folder, monkeypatch):
    monkeypatch.setattr(text_costs, "_SAMPLE_BYTES", 20_000)
    corpus = CorpusConfig(source="files", paths=[str(corpus_folder)])
    costs = text_costs.text_costs(corpus, TokenizerConfig(vocab_size=300, train_bytes=1000))
    assert costs.read > 0
    assert costs.train_bytes == 1000
    assert costs.seconds(2e6) > costs.seconds(1e6)
