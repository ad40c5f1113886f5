"""A moment of tokenising the beginning of a corpus, to say how long all of it will take here."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from miniplm.data.documents import CorpusConfig, DocumentTally, read_documents
from miniplm.data.encoder_check import choose_encoder
from miniplm.data.tokenizer import (
    TokenizerConfig,
    load_configured_tokenizer,
    token_table,
    train_tokenizer,
)

_SAMPLE_BYTES = 2_500_000


@dataclass(frozen=True)
class TextCosts:
    """What tokenising takes, in seconds.

    Args:
        base: To load and check the tokenizer.
        read: To read a byte of text.
        encoded: To encode it.
        trained: To train the tokenizer on a byte, and read it for that.
        training_base: Of that training, what does not depend on the text.
        train_bytes: Bytes that it is trained on, at most; 0 for a released one.
    """

    base: float
    read: float
    encoded: float
    trained: float = 0.0
    training_base: float = 0.0
    train_bytes: int = 0

    def seconds(self, num_bytes: float) -> float:
        """For a corpus of `num_bytes` of text; a training reads all of it once more.

        Example:
            >>> costs = TextCosts(base=1.0, read=0.25, encoded=0.25, trained=0.5, train_bytes=10)
            >>> costs.seconds(20), TextCosts(base=1.0, read=0.25, encoded=0.25).seconds(20)
            (21.0, 11.0)
        """
        seconds = self.base + (self.read + self.encoded) * num_bytes
        if self.train_bytes:
            seconds += self.training_base + self.read * num_bytes
            seconds += self.trained * min(num_bytes, self.train_bytes)
        return seconds


def text_costs(corpus: CorpusConfig, tokenizer: TokenizerConfig) -> TextCosts:
    """Tokenise the beginning of a corpus, and train a tokenizer on two sizes of it if need be.

    Raises what reading the corpus and loading the tokenizer raises.
    """
    texts = _first_texts(corpus, _SAMPLE_BYTES)
    size = max(1, sum(len(text.encode()) for text in texts))
    read = _seconds(lambda: _first_texts(corpus, _SAMPLE_BYTES)) / size
    if tokenizer.name is not None:
        return TextCosts(*_encoding_costs(tokenizer, texts, size, read))
    with tempfile.TemporaryDirectory() as folder:
        some = texts[: max(1, len(texts) // 4)]
        some_size = sum(len(text.encode()) for text in some)
        quick = _seconds(lambda: train_tokenizer(some, tokenizer.vocab_size, Path(folder)))
        slow = _seconds(lambda: train_tokenizer(texts, tokenizer.vocab_size, Path(folder)))
        trained = max(0.0, (slow - quick) / max(1, size - some_size))
        own = tokenizer.model_copy(update={"name": folder})
        return TextCosts(
            *_encoding_costs(own, texts, size, read),
            trained=trained,
            training_base=max(0.0, slow - trained * size),
            train_bytes=tokenizer.train_bytes,
        )


def _encoding_costs(
    tokenizer: TokenizerConfig, texts: list[str], size: int, read: float
) -> tuple[float, float, float]:
    """The first three fields of `TextCosts`."""
    started = time.perf_counter()
    loaded = load_configured_tokenizer(tokenizer)
    token_table(loaded)
    encoder = choose_encoder(loaded, texts)
    base = time.perf_counter() - started
    return base, read, _seconds(lambda: encoder(texts)) / size


def _first_texts(corpus: CorpusConfig, num_bytes: int) -> list[str]:
    texts = []
    for document in read_documents(corpus, DocumentTally()):
        texts.append(document.text[:num_bytes])
        num_bytes -= len(texts[-1])
        if num_bytes <= 0:
            break
    return texts


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
