"""Findings -> text, JSON and the other formats.  Imported when there is something to write, never at start-up."""
