"""``python -m geotree``: the command of :mod:`geotree.cli`."""

from geotree.cli import main

main()
