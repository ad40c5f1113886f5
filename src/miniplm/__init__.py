"""miniplm."""
