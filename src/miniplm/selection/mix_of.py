"""Random rows with the domain mix of another selection: what that one's mix alone buys.

A student that is trained on them sees as much of each domain as one that is trained on the
selection; what the selection has over it is owed to which rows of a domain it keeps.
"""

from collections.abc import Mapping
from typing import Any

from miniplm.errors import ArtefactError
from miniplm.selection.config import SelectionConfig


def with_mix(config: SelectionConfig, domains: Mapping[str, Mapping[str, Any]]) -> SelectionConfig:
    """A config that keeps as many rows of each domain as a selection does.

    Args:
        config: Of a random selection with `mix_of`.
        domains: What the manifest of the selection it names says of each domain.

    Returns:
        With the selection's ratio, and a share for every domain.

    Raises:
        ArtefactError: The selection keeps nothing.
    """
    kept = {name: int(facts["num_kept"]) for name, facts in domains.items()}
    num_kept, num_rows = sum(kept.values()), sum(d["num_sequences"] for d in domains.values())
    if num_kept == 0:
        raise ArtefactError(f"selection {config.mix_of!r} keeps nothing, so it has no mix")
    shares = {name: count / num_kept for name, count in kept.items()}
    return config.model_copy(update={"ratio": num_kept / num_rows, "shares": shares})
