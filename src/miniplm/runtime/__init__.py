"""How work is carried: executors, devices, logging and progress."""
