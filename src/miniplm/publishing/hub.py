"""Sending a parcel to the Hugging Face hub, as one commit of exactly its files."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any, Protocol

from miniplm.errors import HubError, reason_of
from miniplm.publishing.parcel import Parcel

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class HubApi(Protocol):
    """What is used of `huggingface_hub.HfApi`."""

    def whoami(self) -> dict[str, Any]:
        """Whose token it is."""

    def repo_exists(self, repo_id: str, *, repo_type: str) -> bool:
        """Whether there is such a repository."""

    def repo_info(self, repo_id: str, *, repo_type: str) -> Any:  # noqa: ANN401
        """Facts about a repository, among them `private`."""

    def create_repo(self, repo_id: str, *, repo_type: str, private: bool) -> Any:  # noqa: ANN401
        """Make a repository."""

    def create_commit(
        self, repo_id: str, operations: list[Any], *, commit_message: str, repo_type: str
    ) -> Any:  # noqa: ANN401
        """Add files to it."""


def check_repo_id(repo_id: str) -> None:
    """Refuse what is no name of a repository.

    Raises:
        HubError: It is not of the form `user/name`.
    """
    if not _REPO_ID.fullmatch(repo_id):
        raise HubError(f"--repo {repo_id!r}: give user/name, or organisation/name")


def push(parcel: Parcel, repo_id: str, *, private: bool, api: HubApi | None = None) -> str:
    """Send the files of a parcel, and nothing else.

    Args:
        parcel: What to send.
        repo_id: `user/name`; the repository is made if it is not there.
        private: Whether only its owner may see it. One that is there has to be as asked for.
        api: To talk to the hub with; that of `huggingface_hub` if not given.

    Returns:
        The address of the repository.

    Raises:
        HubError: There is no access token, the hub refuses or cannot be reached, or the repository
            is visible to others than asked for.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    check_repo_id(repo_id)
    hub: HubApi = HfApi() if api is None else api
    kind = parcel.repo_type
    with _explained(repo_id):
        hub.whoami()
        if not hub.repo_exists(repo_id, repo_type=kind):
            hub.create_repo(repo_id, repo_type=kind, private=private)
        # asked of a new one too: an organisation may decide for itself
        _check_visibility(hub, repo_id, kind, private)
        files = [CommitOperationAdd(name, str(parcel.folder / name)) for name in parcel.names]
        hub.create_commit(
            repo_id, files, commit_message=f"Upload {parcel.what} with miniplm", repo_type=kind
        )
    return f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{repo_id}"


def _check_visibility(hub: HubApi, repo_id: str, kind: str, private: bool) -> None:
    is_private = bool(hub.repo_info(repo_id, repo_type=kind).private)
    if is_private != private:
        found, asked = ("private", "--public") if is_private else ("public", "--private")
        raise HubError(
            f"{repo_id} is {found}, but {asked} was asked for; nothing was sent. Ask for what it "
            "is, change it on the hub, or choose another name."
        )


@contextlib.contextmanager
def _explained(repo_id: str) -> Iterator[None]:
    from huggingface_hub import errors

    try:
        yield
    except errors.LocalTokenNotFoundError as error:
        raise HubError(
            "there is no access token for the hub. Log in with `hf auth login`, or set HF_TOKEN to "
            "a token with the right to write (https://huggingface.co/settings/tokens)."
        ) from error
    except errors.HfHubHTTPError as error:
        raise HubError(f"{repo_id}: the hub refuses: {reason_of(error)}") from error
    except (errors.HTTPError, ConnectionError) as error:  # type: ignore[attr-defined]  # of httpx
        raise HubError(f"{repo_id}: the hub cannot be reached: {reason_of(error)}") from error
