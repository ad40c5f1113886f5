"""How many files a process may have open: each token shard that is mapped is one."""

import sys

from miniplm.errors import ArtefactError

_OTHERS = 256
"""Files that Python and libraries have open besides."""


def allow_open_files(count: int) -> None:
    """Raise the process's own limit, as far as the system lets it, so that `count` files fit.

    Raises:
        ArtefactError: The system allows fewer.
    """
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OTHERS
    if soft == resource.RLIM_INFINITY or wanted <= soft:
        return
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise ArtefactError(
            f"{count:,} token shards have to be open at once; the system allows {hard:,} files "
            "(ulimit -Hn). Raise that, or make larger shards (packing.sequences_per_shard)."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
