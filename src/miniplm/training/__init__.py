"""Pre-training of students, and of teachers and references that are made from scratch."""
