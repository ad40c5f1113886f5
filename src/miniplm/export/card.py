"""The dataset card of a refined corpus, as the Hugging Face hub reads it.

All figures come from the manifests of the stages that made the corpus.
"""

from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FunctionLoader, StrictUndefined

from miniplm.export.config import Form
from miniplm.export.corpus_history import CorpusHistory
from miniplm.manifest import Manifest, Outcome

_DATA_FILES: Mapping[Form, str] = {
    "tokens": "data_*.parquet",
    "input_ids": "data_*.parquet",
    "jsonl": "data_*.jsonl.zst",
    "parquet": "data_*.parquet",
}
"""What `datasets` loads, of the forms that it loads."""

_SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")


def corpus_card(
    name: str,
    form: Form,
    written: Outcome,
    history: CorpusHistory,
    *,
    materialized: bool = False,
    ends: Mapping[float, int] | None = None,
) -> str:
    """A README.md for a form of a refined corpus.

    Args:
        name: Of the corpus.
        form: In which it is written.
        written: What was written.
        history: How the corpus came about.
        materialized: Whether rows are in it as often as they count.
        ends: How many rows take part until which share of training, of a scheduled selection.
    """
    selection, other = history.select, history.retokenized
    own_tokenizer = _own_tokenizer(history.tokenize)
    own_length = history.tokenize.config["packing"]["max_length"]
    return _environment().get_template("card.md.j2").render(
        header=_header(name, form, written, (other.manifest if other else history.export)),
        name=name,
        form=form,
        written=written,
        materialized=materialized,
        ends=ends or {},
        source=_source(history.tokenize.facts["corpus"]),
        tokenizer=_tokenizer(other.tokenizer, other.info.vocab_size) if other else own_tokenizer,
        max_length=other.info.max_length if other else own_length,
        eos_id=other.info.eos_id if other else history.tokenize.facts["eos_id"],
        retokenized=other and {"before": own_tokenizer, "share_cut": _share_cut(other.manifest)},
        teacher=_model("teacher", history),
        reference=_model("reference", history),
        selection=selection,
        threshold=selection.facts.get("threshold"),
        domains=selection.facts.get("domains", {}),
        settings=yaml.safe_dump(dict(selection.config), sort_keys=False).rstrip(),
    )  # fmt: skip


def _header(name: str, form: Form, written: Outcome, made_by: Manifest) -> str:
    """The YAML between the dashes.

    `datasets` keeps what it has loaded under the names of folder and configuration alone, so that
    another corpus of the same name would be taken for this one: the configuration's name tells
    them apart.
    """
    content: dict[str, Any] = {
        "license": "other",
        "license_name": "unknown",
        "pretty_name": f"{name} (MiniPLM refined corpus)",
        "task_categories": ["text-generation"],
        "tags": ["miniplm", "pretraining"],
    }
    if form not in ("jsonl", "parquet"):  # those hold more records than sequences
        content["size_categories"] = [_size(written.counts["sequences"])]
    if form in _DATA_FILES:
        config = f"{form}-{made_by.fingerprint[:12]}"
        content["configs"] = [{"config_name": config, "data_files": _DATA_FILES[form]}]
    else:
        content["viewer"] = False
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True).rstrip()


def _size(num_rows: int) -> str:
    """The hub's name for a number of rows.

    Example:
        >>> _size(999), _size(1000), _size(2_000_000)
        ('n<1K', '1K<n<10K', '1M<n<10M')
    """
    exponent = len(str(num_rows)) - 1
    if exponent < 3:
        return "n<1K"
    if exponent >= 15:
        return "n>1T"
    place = exponent - 3
    return f"{_SIZES[place]}<n<{_SIZES[place + 1]}" if place + 1 < len(_SIZES) else "n>1T"


def _source(corpus: Mapping[str, Any]) -> str:
    """Which text it was, without the folders of this machine."""
    if corpus["source"] == "embedded":
        return "the text that Python itself carries (the embedded corpus of miniplm)"
    if corpus["source"] == "datasets":
        return f"the dataset `{public_name(corpus['dataset'])}`, split `{corpus['dataset_split']}`"
    kind = "token shards" if corpus["source"] == "tokens" else "files"
    return f"{kind}: {', '.join(f'`{Path(path).name}`' for path in corpus['paths'])}"


def _own_tokenizer(tokenize: Manifest) -> str:
    return _tokenizer(tokenize.config["tokenizer"]["name"], tokenize.facts["vocab_size"])


def _share_cut(retokenize: Manifest) -> float:
    """Share of the text that was cut off with the ends of rows that became too long."""
    return float(retokenize.counts["cut_bytes"] / max(1, retokenize.counts["bytes_encoded"]))


def _tokenizer(name: str | None, size: int) -> str:
    if name is None:
        return f"a byte-level BPE of {size:,} entries, trained on the corpus"
    return f"`{public_name(name)}` ({size:,} entries)"


def _model(role: str, history: CorpusHistory) -> str:
    """What a scoring model is, in a few words."""
    training = history.trainings.get(role)
    if training is not None:
        return (
            f"{training.facts['num_params']:,} parameters, trained from scratch on "
            f"{training.num_tokens:,} tokens of the corpus"
        )
    config = history.scores[role].config
    revision = f", revision `{config['revision']}`" if config.get("revision") else ""
    return f"`{public_name(str(config.get('name')))}`{revision}"


def public_name(name: str) -> str:
    """A hub name as it is; of a folder on this machine its last part only.

    Example:
        >>> public_name("Qwen/Qwen1.5-1.8B"), public_name("/home/me/models/mine")
        ('Qwen/Qwen1.5-1.8B', 'mine')
    """
    path = Path(name).expanduser()
    is_folder = path.is_absolute() or name.startswith(".") or path.exists()
    return path.name if is_folder else name


def _cell(text: object) -> str:
    """A text in a cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")


@cache
def _environment() -> Environment:
    environment = Environment(  # noqa: S701  (Markdown, not HTML)
        loader=FunctionLoader(_read),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["count"] = "{:,}".format
    environment.filters["cell"] = _cell
    return environment


def _read(name: str) -> str:
    return resources.files("miniplm.export").joinpath(name).read_text(encoding="utf-8")
