"""Where in a map an item is: its page, and rarely one of those behind it. Pure."""

from __future__ import annotations

from guix_glue.formats.item_map.layout import MOST_DISPLACED, InvalidMap, Page, home_of

__all__ = ["Search"]


class Search:
    """Look for one key, 20 bytes, in a map with so many pages.

    ```python
    search = Search(key, pages)
    while (page := search.page) is not None:
        search.look(parse_page(data[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]))
    found = search.found
    ```
    """

    def __init__(self, key: bytes, pages: int) -> None:
        self.page: int | None = home_of(key, pages)
        """What to look at next, counted from 1, as the head is at 0; None at the end."""
        self.found: bytes | None = None
        """The 65 bytes of the capability, if there is such an entry."""
        self._key = key
        self._pages = pages
        self._last = min(pages, self.page + MOST_DISPLACED)

    def look(self, page: Page) -> None:
        """Take the page that is wanted.

        Raises: InvalidMap, if its entries belong elsewhere.
        """
        number, self.page = self.page, None
        if number is None:
            raise ValueError("no page is wanted")
        if not page.entries:
            return
        first, last = (home_of(page.entries[place].key, self._pages) for place in (0, -1))
        if first < number - MOST_DISPLACED or last > number:
            raise InvalidMap("entries are not in the page where they should be")
        self.found = next((one.value for one in page.entries if one.key == self._key), None)
        is_behind = page.is_full and page.entries[-1].key < self._key
        if is_behind and number < self._last:
            self.page = number + 1
