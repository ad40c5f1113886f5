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
    faults = _mix_faults(selections)
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


def _mix_faults(selections: Mapping[str, SelectionConfig]) -> list[str]:
    """Selections that take the mix of one that does not stand above them, or that has no mix."""
    faults: list[str] = []
    above: list[str] = []
    for name, selection in selections.items():
        if selection.mix_of is not None and selection.mix_of not in above:
            there = f"there are {', '.join(above)}" if above else "there is none"
            faults.append(
                f"selections.{name}.mix_of: names a selection above it; {there} "
                f"(given: {selection.mix_of!r})"
            )
        elif selection.mix_of is not None and not _has_mix(selections[selection.mix_of]):
            faults.append(
                f"selections.{name}.mix_of: {selection.mix_of!r} has a schedule or repeats rows: "
                "its rows are not what is read of each domain; name one without"
            )
        above.append(name)
    return faults


def _has_mix(selection: SelectionConfig) -> bool:
    """Whether each row that is kept is read as often as any other."""
    return not selection.schedule and not selection.replacement
