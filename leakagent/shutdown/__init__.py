"""Stages, watchdog, signals, and every private CPython name that the project uses."""
