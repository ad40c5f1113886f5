"""Methods x sizes x seeds over one scored corpus, and what the table of them says."""
