"""``python -m sync``: the same program as ``ehpc-image-sync``."""

from sync.cli import main

if __name__ == "__main__":
    main()
