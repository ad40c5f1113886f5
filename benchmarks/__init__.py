"""Benchmarks: every stage of the data path against the authors' way and the machine's limit.

`make bench` runs them; `python -m benchmarks --help` says what can be set. Nothing here is part
of the package, and nothing in the package knows of it.
"""
