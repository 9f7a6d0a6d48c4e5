"""Refuse to publish a book with fewer pages than the one that is online.

``pages.py FOLDER ADDRESS`` counts the pages of a built book, compares with
the number that stands at the address, and leaves the new one in the folder,
to be published with it. A site that is not there yet is no objection; one
that cannot be asked is.
"""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

NUMBER = "pages.txt"


def online(address: str) -> int:
    """Pages of the published book; 0 where none is published."""
    try:
        with urlopen(f"{address.rstrip('/')}/{NUMBER}", timeout=60) as answer:
            return int(answer.read())
    except HTTPError as error:
        if error.code == 404:
            return 0
        raise


def main(folder: str, address: str) -> str:
    """Write the number of pages; a text to exit with where it fell."""
    pages = sum(1 for path in Path(folder).rglob("*.html")
                if not path.relative_to(folder).parts[0].startswith("_"))
    try:
        before = online(address)
    except (URLError, ValueError, TimeoutError) as error:
        return f"cannot tell how many pages '{address}' has: {error}"
    if pages < max(before, 1):
        return (f"'{folder}' has {pages} pages, '{address}' has {before}. "
                "Where did they go? If they are gone on purpose, publish by "
                "hand with a smaller number in pages.txt there.")
    Path(folder, NUMBER).write_text(f"{pages}\n", "utf-8")
    print(f"{pages} pages, {before} before")
    return ""


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
