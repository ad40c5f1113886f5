"""Which sequences to keep, from two score tables. No torch here."""
