"""The refined corpus, as token shards and as text."""
