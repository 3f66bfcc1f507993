"""``python -m mirl``."""

from mirl.cli import main

main()
