"""Counting compute, and comparing models by it."""
