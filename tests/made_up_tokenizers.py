"""Small tokenizers of each kind, and token shards made with them."""

import numpy as np

from miniplm.data.encoders import TokenizersEncoder
from miniplm.data.packing import DomainPacker
from miniplm.data.shards import make_sidecar, write_shard
from miniplm.data.tokenizer import load_tokenizer, token_table, train_tokenizer

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"

TEXTS = [
    "The cat sat on the mat. The dog did not.\nA new line, and the end of it.",
    "Emoji 🙂👩\u200d👩\u200d👧 and 🏳\ufe0f\u200d🌈, flags 🇩🇪.",
    "漢字かな交じり文。もう一つ。 한국어 문장.",
    "CRLF\r\nline\r\n\r\nand\rbare\tTab\x0b\x0c\x1c control \x00\x01\x07\x1b[0m end\x7f\x85.",
    "Broken before: \ufffd and \ufffd\ufffd, kept as they are.",
    " begins with a space.  And two.   And three. Ends with spaces   ",
    "  begins with two\n\n   indented\n\tand tabbed",
    "<|endoftext|> is text here, and so are </s>, <s>, <unk> and <0x0A>; Ġ too.",
    "e\u0301 é ﬁ Å \u212b İ ß Ω \u00a0 \u3000 \u200b \ufeff \U0010ffff",
    "x",
    "\n",
]


def byte_level(folder, vocab_size=300, texts=TEXTS):
    """A byte-level BPE trained on the spot."""
    train_tokenizer(texts * 3, vocab_size, folder)
    return folder


def sentencepiece_like(folder, space="first", *, bos=False):
    """A BPE with byte fallback as transformers makes one of a SentencePiece file.

    Args:
        folder: Where it goes.
        space: What is put in front of a text: `always` a space, `first`: one if there is none,
            `never`.
        bos: Whether texts are begun with a mark.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    merges = [(SPACE, "t"), ("h", "e"), (f"{SPACE}t", "he"), (SPACE, SPACE), ("a", "n")]
    pieces += [SPACE, *"Tthecadogsmn.", *("".join(merge) for merge in merges)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    bpe = models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    raw = Tokenizer(bpe)
    strip = []
    if space == "first":
        raw.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="first", split=False)
    else:
        raw.normalizer = normalizers.Sequence(
            [normalizers.Prepend(SPACE)] * (space == "always") + [normalizers.Replace(" ", SPACE)]
        )
    if space != "never":
        strip = [decoders.Strip(" ", 1, 0)]
    raw.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    if bos:
        raw.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
        )
    PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


def pack(folder, tokenizer_folder, texts=TEXTS, *, max_length=24, per_shard=1000, scores=False):
    """Token shards of documents, packed as tokenising packs them; document i is `doc-i`."""
    tokenizer = load_tokenizer(tokenizer_folder)
    table = token_table(tokenizer)
    packer = DomainPacker(table.ends_sentence_V, table.eos_id, max_length)
    for number, ids in enumerate(TokenizersEncoder(tokenizer)(texts).split()):
        assert packer.add(ids, number) is None  # a block is not full
    write_packed(folder, packer.flush(), table, max_length, per_shard, scores=scores)
    return folder


def write_packed(folder, rows, table, max_length, per_shard=1000, *, scores=False):
    """Token shards of packed rows; the source of number i is `doc-i`."""
    ids = np.split(rows.ids_N, np.cumsum(rows.lengths_R)[:-1])
    ends = np.cumsum(rows.num_sources_R)
    sources = np.split(rows.sources_S, ends[:-1])
    for number, begin in enumerate(range(0, len(ids), per_shard)):
        part = slice(begin, begin + per_shard)
        sidecar = make_sidecar(
            np.arange(begin, begin + len(ids[part])),
            ["even" if place % 2 == 0 else "odd" for place in range(len(ids[part]))],
            np.array([len(row) for row in ids[part]], np.int32),
            np.array([table.num_bytes_V[row].sum() for row in ids[part]]),
            [[f"doc-{source}" for source in some] for some in sources[part]],
        )
        if scores:
            values = np.arange(len(sidecar)) / 8
            sidecar = sidecar.append_column("difference_score", [values])
        write_shard(
            folder / f"data_{number}", ids[part], sidecar,
            vocab_size=table.vocab_size, eos_id=table.eos_id, max_length=max_length,
        )  # fmt: skip
