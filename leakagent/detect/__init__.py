"""Pure functions, records -> findings: one file per family."""
