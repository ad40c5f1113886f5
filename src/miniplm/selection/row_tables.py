"""What is known of the candidates' rows beside their scores."""

from dataclasses import dataclass
from pathlib import Path

from miniplm.errors import ConfigError
from miniplm.selection.config import SelectionConfig


@dataclass(frozen=True)
class RowTables:
    """Folders of tables that hold a file for each token shard.

    Args:
        groups: Group tables (`selection.grouping`), or None.
        clusters: Cluster tables (`selection.near_duplicates`), or None.
    """

    groups: Path | None = None
    clusters: Path | None = None

    def check(self, config: SelectionConfig) -> None:
        """Check that what a selection looks at is there.

        Raises:
            ConfigError: It is not.
        """
        faults = []
        if config.within == "group" and self.groups is None:
            faults.append("within: group ranks within groups, and rows were not grouped")
        if config.one_per_cluster and self.clusters is None:
            faults.append("one_per_cluster: near-duplicates were not looked for")
        if faults:
            raise ConfigError("the selection", faults)
