"""A document, the slice of a corpus that is read, and the tally of what was good and bad."""

import hashlib
from dataclasses import dataclass, field

from miniplm.errors import DocumentError

PLACES_KEPT = 3
"""Places remembered per reason: enough to look at, however many bad documents there are."""

CHECKED_FROM = 1000
"""Documents before the share of bad ones is judged while reading; at the end it always is."""


@dataclass(frozen=True, slots=True)
class Document:
    """One text with its domain.

    Args:
        text: Not empty, not only whitespace, and encodable as UTF-8.
        domain: Name of the group that quotas and reports are made for.
        id: Unique in the corpus unless the corpus's own ids repeat. What comes before the first
            `#` is the source: all documents of a source go to the same split.
    """

    text: str
    domain: str
    id: str

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes of the text, for ASCII without a look at it."""
        return len(self.text) if self.text.isascii() else len(self.text.encode())


@dataclass(slots=True)
class DocumentTally:
    """What was read so far, counted while `read_documents` runs.

    Args:
        num_documents: Good documents.
        num_bytes: UTF-8 bytes of the good documents' text.
        dropped: Number of bad documents by reason.
        places: The first few `file:line` by reason.
        num_other_files: Files below the given folders whose extension is not one that is read.
    """

    num_documents: int = 0
    num_bytes: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)
    num_other_files: int = 0

    @property
    def num_dropped(self) -> int:
        """Bad documents, all reasons together."""
        return sum(self.dropped.values())

    def add(self, num_bytes: int) -> None:
        """Count a good document of this many UTF-8 bytes."""
        self.num_documents += 1
        self.num_bytes += num_bytes

    def drop(self, reason: str, place: str) -> None:
        """Count a bad document."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        places = self.places.setdefault(reason, [])
        if len(places) < PLACES_KEPT:
            places.append(place)

    def check(self, max_bad_share: float, *, finished: bool = False) -> None:
        """Refuse a corpus of which too much is bad.

        Args:
            max_bad_share: The largest share of bad documents that is accepted.
            finished: The corpus has been read to its end; before that, nothing is judged on
                fewer than `CHECKED_FROM` documents.

        Raises:
            DocumentError: Names the first bad places by reason, the counts and the limit.
        """
        if not self.dropped:
            return
        num_seen = self.num_documents + self.num_dropped
        if (num_seen < CHECKED_FROM and not finished) or (
            self.num_dropped <= max_bad_share * num_seen
        ):
            return
        reasons = "\n".join(
            f"  - {count:,} x {reason}, first at {', '.join(self.places[reason])}"
            for reason, count in sorted(self.dropped.items(), key=lambda item: -item[1])
        )
        raise DocumentError(
            f"corpus: {self.num_dropped:,} of {'all' if finished else 'the first'} {num_seen:,} "
            f"documents are bad ({self.num_dropped / num_seen:.2%}); "
            f"the limit is {max_bad_share:.2%}\n{reasons}\n"
            f"Fix the files, or, in a recipe, raise corpus.max_bad_share to go on without them."
        )


def in_share(source: str, share: float) -> bool:
    """Whether a source is in the slice that holds this share of all sources.

    Slices are nested: what is in a share of 0.1 is in every larger one.
    """
    if share >= 1:
        return True
    # Personalised, so that a slice says nothing about splits that hash the same names.
    digest = hashlib.blake2b(source.encode(errors="replace"), digest_size=8, person=b"share")
    return int.from_bytes(digest.digest()) < share * 2**64
