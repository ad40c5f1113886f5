"""Tokenizers: from the hub or a folder, or a byte-level BPE trained on the corpus.

`TokenTable` is what packing and evaluation need to know of each id (does it end a sentence, how
many bytes of text does it stand for), worked out once per vocabulary instead of per row.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from miniplm.config import Config, WholeNumber
from miniplm.errors import ModelError, reason_of
from miniplm.model import ModelConfig
from miniplm.runtime.log import logger

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EOS_TOKEN = "<|endoftext|>"  # noqa: S105  (a token of text, no secret)
_LOAD_ERRORS = (OSError, ValueError, KeyError, ImportError)
_SENTENCE_END = re.compile(rb"(?:[.!?][\"')\]]*\s*|\n\s*|\xe3\x80\x82|\xef\xbc\x81|\xef\xbc\x9f)\Z")
_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


class TokenizerConfig(Config):
    """Which tokenizer cuts the corpus."""

    name: str | None = Field(
        None, description="hub name or folder; null trains a byte-level BPE on the corpus"
    )
    revision: str | None = Field(None, description="hub revision of the tokenizer")
    trust_remote_code: bool = Field(False, description="run Python code that comes with it")
    vocab_size: int = Field(8192, ge=257, description="size of the trained vocabulary")
    train_bytes: WholeNumber = Field(
        50_000_000, ge=1, description="bytes of text the vocabulary is trained on, at most"
    )


@dataclass(frozen=True)
class TokenTable:
    """Facts about every id of a vocabulary.

    Args:
        num_bytes_V: Bytes of text an id stands for, `[V]`; 0 for special tokens.
        ends_sentence_V: Whether a sentence or line may end behind it, `[V]`; true for eos.
        eos_id: End-of-text id.
    """

    num_bytes_V: NDArray[np.int64]
    ends_sentence_V: NDArray[np.bool_]
    eos_id: int

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return len(self.num_bytes_V)


def load_tokenizer(
    name: str | Path, *, revision: str | None = None, trust_remote_code: bool = False
) -> "PreTrainedTokenizerBase":
    """Load a tokenizer from the hub or a folder.

    Raises:
        ModelError: It cannot be loaded, is not backed by `tokenizers`, or has no vocabulary or no
            end-of-text token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(name), revision=revision, trust_remote_code=trust_remote_code
        )
    except Exception as error:
        if not (isinstance(error, _LOAD_ERRORS) or type(error) is Exception):
            raise  # `tokenizers` has no errors of its own
        raise ModelError(
            f"cannot load the tokenizer {str(name)!r}: {_load_fault(Path(name), error)}. Expected "
            "the name of a hub repository or a folder with tokenizer.json."
        ) from error
    if not tokenizer.is_fast:
        raise ModelError(
            f"the tokenizer {str(name)!r} has no tokenizer.json that the `tokenizers` library "
            "reads. Convert it first (AutoTokenizer.from_pretrained(...).save_pretrained(folder))."
        )
    if not tokenizer("a", add_special_tokens=False)["input_ids"]:
        # transformers makes an empty one of some families where there are no files
        raise ModelError(
            f"cannot load the tokenizer {str(name)!r}: it has no vocabulary. Expected the name of "
            "a hub repository or a folder with tokenizer.json."
        )
    if tokenizer.eos_token_id is None and EOS_TOKEN in tokenizer.get_vocab():
        tokenizer.eos_token = EOS_TOKEN
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"the tokenizer {str(name)!r} has no end-of-text token, which separates documents. "
            "Set eos_token in its tokenizer_config.json."
        )
    return tokenizer


def load_configured_tokenizer(config: TokenizerConfig | ModelConfig) -> "PreTrainedTokenizerBase":
    """Load the tokenizer that a config names, or that comes with the released model it names.

    Raises what `load_tokenizer` raises.
    """
    assert config.name is not None
    return load_tokenizer(
        config.name, revision=config.revision, trust_remote_code=config.trust_remote_code
    )


def _load_fault(folder: Path, error: BaseException) -> str:
    """Why a tokenizer could not be loaded; `transformers` takes a wrong folder for a hub name."""
    if folder.is_absolute() and not folder.exists():
        return "there is no such folder"
    file = folder / "tokenizer.json"
    if folder.exists() and not file.exists():
        held = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        return f"it holds {', '.join(held[:5]) or 'no files'}"
    if file.exists() and not isinstance(error, OSError | ImportError):
        return f"its tokenizer.json is damaged ({reason_of(error)})"
    return reason_of(error)


def train_tokenizer(texts: Iterable[str], vocab_size: int, folder: Path) -> None:
    """Train a byte-level BPE and save it as a Hugging Face tokenizer folder.

    Args:
        texts: What to train on.
        vocab_size: Entries of the vocabulary, end-of-text included.
        folder: Where to write `tokenizer.json` and `tokenizer_config.json`.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOS_TOKEN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=EOS_TOKEN, pad_token=EOS_TOKEN
    )
    wrapped.save_pretrained(folder)


def token_table(tokenizer: "PreTrainedTokenizerBase") -> TokenTable:
    """Bytes and sentence ends of every id of the tokenizer."""
    texts = token_bytes(tokenizer)
    eos_id = int(tokenizer.eos_token_id)
    ends = np.array([bool(_SENTENCE_END.search(text)) for text in texts], dtype=np.bool_)
    ends[eos_id] = True
    return TokenTable(np.array([len(text) for text in texts], dtype=np.int64), ends, eos_id)


def token_bytes(tokenizer: "PreTrainedTokenizerBase") -> list[bytes]:
    """The bytes of text that each id stands for; empty for special tokens and unused ids.

    Exact for byte-level BPE and for SentencePiece with byte fallback; other kinds of tokenizer
    are asked to decode each id.
    """
    backend = tokenizer.backend_tokenizer
    pieces = backend.get_vocab(with_added_tokens=True)
    added = backend.get_added_tokens_decoder()
    special = {index for index, token in added.items() if token.special}
    to_bytes = _piece_reader(backend)
    texts = [b""] * (max(pieces.values()) + 1)
    for piece, index in pieces.items():
        if index in special:
            continue
        if index in added:
            texts[index] = piece.encode()
        elif to_bytes is not None:
            texts[index] = to_bytes(piece)
        else:
            texts[index] = tokenizer.decode([index]).encode()
    return texts


def check_stands_for_bytes(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Refuse a tokenizer of which `token_bytes` is not exact: ids could not be turned into text.

    Raises:
        ModelError: It is neither byte-level BPE nor SentencePiece with byte fallback.
    """
    if _piece_reader(tokenizer.backend_tokenizer) is None:
        raise ModelError(
            f"the tokenizer {tokenizer.name_or_path!r} is neither byte-level nor has it a byte "
            "fallback, so its ids do not stand for the bytes of a text, and rows cannot be turned "
            "into text and back. Tokenise the documents afresh instead."
        )


def put_no_marks(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Let a tokenizer put nothing around a text that it is called on.

    Corpora have no mark in front of documents, so a student never saw the one that some families
    begin texts with.
    """
    if len(tokenizer("a")["input_ids"]) > len(
        tokenizer("a", add_special_tokens=False)["input_ids"]
    ):
        tokenizer.add_bos_token = tokenizer.add_eos_token = False


def _piece_reader(backend: Any) -> Any:  # noqa: ANN401  (a function or None)
    decoder = backend.decoder
    kinds = _component_types(json.loads(decoder.__getstate__()) if decoder else None)
    if "ByteLevel" in kinds:
        letters = _byte_level_letters()
        return lambda piece: _byte_level_bytes(piece, letters)
    if "ByteFallback" in kinds:
        return _sentencepiece_bytes
    return None


def _component_types(component: dict[str, Any] | None) -> set[str]:
    if component is None:
        return set()
    nested = component.get("decoders", [])
    return {component["type"]}.union(*(_component_types(inner) for inner in nested))


def _byte_level_bytes(piece: str, letters: dict[int, int]) -> bytes:
    try:
        return piece.translate(letters).encode("latin-1")
    except UnicodeEncodeError:
        return piece.encode()  # a word put into the vocabulary by hand


def _sentencepiece_bytes(piece: str) -> bytes:
    if match := _BYTE_PIECE.fullmatch(piece):
        return bytes([int(match[1], 16)])
    return piece.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode()


def _byte_level_letters() -> dict[int, int]:
    """The byte behind each letter of byte-level BPE, to translate with.

    Printable bytes stand for themselves; the others, which are no letters, become what is no byte.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return dict.fromkeys(others, 0xFFFF) | {256 + place: byte for place, byte in enumerate(others)}


def check_same_tokenizer(ours: "PreTrainedTokenizerBase", config: ModelConfig, what: str) -> None:
    """Refuse a released model whose tokenizer gives other ids than the one the corpus is cut with.

    Special tokens other than end-of-text do not matter, since encoding never gives them. A model
    that comes without a tokenizer that can be read cannot be checked; that is logged.

    Args:
        ours: The corpus's tokenizer.
        config: The released model.
        what: Who it is, for the message.

    Raises:
        ModelError: An entry of the corpus's vocabulary has another id, or none.
    """
    try:
        loaded = load_configured_tokenizer(config)
    except ModelError as error:
        logger.warning("%s: its tokenizer cannot be compared with the corpus's (%s)", what, error)
        return
    theirs, added = loaded.get_vocab(), ours.added_tokens_decoder
    for piece, index in ours.get_vocab().items():
        never_given = index in added and added[index].special and index != ours.eos_token_id
        if theirs.get(piece) != index and not never_given:
            raise ModelError(
                f"{what}: {config.name!r} has another tokenizer than the corpus (the entry "
                f"{piece!r} is id {index} in the corpus and {theirs.get(piece, 'missing')} in the "
                f"model). Set tokenizer.name to {config.name!r}, or {what}.tokenizer to own: "
                "it then reads the same text in its own tokens, and scores are compared per_byte."
            )
