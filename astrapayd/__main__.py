"""``python -m astrapayd`` is the command ``astrapayd``."""

from astrapayd.cli import main

main()
