"""From how many tokens per parameter on a comparison says something."""

TOKENS_PER_PARAM = {"teacher": 20, "reference": 20, "student": 40}
"""The paper's reference saw 50 tokens per parameter, its students 40 to 250."""
