"""Text by the teacher: continuations of prompts that are cut from the corpus."""
