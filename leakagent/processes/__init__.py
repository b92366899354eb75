"""The process family: who started whom, and how findings of children reach the report."""
