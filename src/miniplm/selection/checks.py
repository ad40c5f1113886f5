"""What is wrong between selections and the tables of rows that they look at."""

from collections.abc import Mapping

from miniplm.selection.config import SelectionConfig
from miniplm.selection.duplicates_config import NearDuplicatesConfig
from miniplm.selection.grouping_config import GroupingConfig


def row_table_faults(
    selections: Mapping[str, SelectionConfig],
    near_duplicates: NearDuplicatesConfig | None,
    grouping: GroupingConfig | None,
) -> list[str]:
    """Faults of selections that look at groups or near-duplicates.

    Args:
        selections: By name.
        near_duplicates: Section of the recipe.
        grouping: Section of the recipe.
    """
    faults = []
    for name, selection in selections.items():
        if selection.within == "group" and grouping is None:
            faults.append(
                f"selections.{name}.within: group, but nothing is grouped; give a grouping "
                "section, such as grouping: {num_groups: 32}"
            )
        if selection.one_per_cluster and near_duplicates is None:
            faults.append(
                f"selections.{name}.one_per_cluster: near-duplicates are not looked for; give a "
                "near_duplicates section, such as near_duplicates: {similarity: 0.8}"
            )
        elif selection.one_per_cluster and near_duplicates and near_duplicates.keep == "first":
            faults.append(
                f"selections.{name}.one_per_cluster: near_duplicates.keep: first leaves one of "
                "each cluster before anything is scored; remove one of the two"
            )
    return faults
