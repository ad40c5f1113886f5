"""How the teacher continues prompts."""

from typing import Annotated

from pydantic import Field

from miniplm.config import NOT_FINGERPRINTED, Config, WholeNumber
from miniplm.errors import ConfigError


class GenerationConfig(Config):
    """How the teacher continues prompts cut from the corpus."""

    prompts: str = Field(
        "candidates", description="candidates, or the name of a selection: where prompts are cut"
    )
    prompt_tokens: int = Field(64, ge=1, description="a prompt is the first ids of a row, so many")
    new_tokens: int | None = Field(
        None, ge=1, description="most tokens of a continuation; null: up to packing.max_length"
    )
    temperature: float = Field(1.0, ge=0, description="of the sampling; 0: the likeliest token")
    top_p: float = Field(
        1.0, gt=0, le=1, description="only the likeliest tokens of this probability in all"
    )
    tokens: WholeNumber | None = Field(
        None, ge=1, description="generated tokens in all; null: one continuation for every row"
    )
    keep_prompt: bool = Field(
        True, description="rows hold prompt and continuation; false: only its last token before"
    )
    batch_size: Annotated[int | None, NOT_FINGERPRINTED] = Field(
        None, ge=1, description="prompts at a time; null: what suits the device"
    )


def num_new_tokens(prompt_tokens: int, new_tokens: int | None, max_length: int, place: str) -> int:
    """Most tokens of a continuation, in rows of `max_length` predicted tokens.

    Args:
        prompt_tokens: Ids of a prompt.
        new_tokens: What is asked for; None for as many as there is room for.
        max_length: Of the rows.
        place: Where in a config these stand, for the message.

    Raises:
        ConfigError: Prompt and continuation are longer than a row.
    """
    room = max_length + 1 - prompt_tokens
    wanted = new_tokens or max(1, room)
    if wanted > room:
        asked = f"new_tokens {wanted}" if new_tokens else "at least one new token"
        raise ConfigError(
            place,
            [
                f"{place}: prompt_tokens {prompt_tokens} and {asked} make "
                f"{prompt_tokens + wanted} ids; rows hold {max_length + 1} at most "
                "(packing.max_length and one). Lower one of them."
            ],
        )
    return wanted
