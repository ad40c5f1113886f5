"""The road of a recipe: its stages, in order, each with what it depends on."""
