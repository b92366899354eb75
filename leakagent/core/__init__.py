"""Records, sites, registry and findings: pure Python, no I/O, no operating system, no library."""
