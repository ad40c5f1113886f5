"""Students and refined corpora on their way to the Hugging Face hub."""
