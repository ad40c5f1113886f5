"""The tokenizer that a corpus is retokenised with: a released one, or one trained on its text."""

import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from miniplm.data.shards import open_shards
from miniplm.data.tokenizer import (
    TokenizerConfig,
    load_configured_tokenizer,
    load_tokenizer,
    train_tokenizer,
)
from miniplm.export.row_text import RowText
from miniplm.runtime.log import logger


def make_tokenizer(
    config: TokenizerConfig, shards_folder: Path, old_tokenizer: Path, folder: Path
) -> None:
    """Write a tokenizer to `folder`, unless there is one.

    Args:
        config: Which one.
        shards_folder: Token shards whose text a new one is trained on.
        old_tokenizer: Folder of their tokenizer.
        folder: Where it goes; a stage that is killed meanwhile leaves none.

    Raises:
        ModelError: A tokenizer cannot be loaded, or the old one's ids do not stand for bytes.
        ArtefactError: A shard is damaged.
    """
    if folder.exists():
        return
    unfinished = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    if config.name is not None:
        load_configured_tokenizer(config).save_pretrained(unfinished)
    else:
        logger.info("training a tokenizer of %d entries", config.vocab_size)
        texts = corpus_texts(shards_folder, old_tokenizer, config.train_bytes)
        train_tokenizer(texts, config.vocab_size, unfinished)
    unfinished.rename(folder)


def tokenizer_fingerprint(folder: Path) -> str:
    """Hash of what decides over a tokenizer's ids.

    Raises:
        ModelError: The tokenizer cannot be loaded.
    """
    tokenizer = load_tokenizer(folder)
    content = f"{tokenizer.backend_tokenizer.to_str()}\n{tokenizer.eos_token_id}"
    return sha256(content.encode()).hexdigest()[:32]


def corpus_texts(shards_folder: Path, tokenizer: Path, num_bytes: int) -> Iterator[str]:
    """Texts of the rows of a corpus, in order, until there are so many bytes.

    Rows were shuffled when they were made, so the first ones are a sample of the corpus.

    Raises:
        ArtefactError: A shard is damaged, or not of this tokenizer.
        ModelError: The tokenizer's ids do not stand for bytes.
    """
    old = RowText(load_tokenizer(tokenizer))
    for shard in open_shards(shards_folder):
        old.check_shard(shard)
        for place in range(len(shard)):
            for text in old.decode(shard.row(place)).pieces:
                yield text[:num_bytes]
                num_bytes -= len(text.encode())
                if num_bytes <= 0:
                    return
