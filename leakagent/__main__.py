"""``python -m leakagent``: see `leakagent.cli`."""

from leakagent.cli import main

if __name__ == "__main__":
    main()
