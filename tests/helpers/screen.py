"""A terminal that remembers its screen: enough of one to see what a live display leaves on it."""

from __future__ import annotations

import re


class Screen:
    """A screen of some columns, whose lines never leave it. Text that is too long goes on in the next line."""

    def __init__(self, width: int) -> None:
        self.width, self.row, self.column = width, 0, 0
        self.rows: list[list[str]] = [[]]
        self.cursor_visible = True

    def feed(self, text: str) -> None:
        for code, mark, number, letter, char in re.findall(
            r"(\x1b\[(\??)([\d;]*)([A-Za-z]))|(.|\n|\r)", text
        ):
            if code:
                self._obey(mark, number, letter)
            elif char == "\r":
                self.column = 0
            elif char == "\n":
                self._down()
            else:
                self._put(char)

    def _obey(self, mark: str, number: str, letter: str) -> None:
        if mark and number == "25":
            self.cursor_visible = letter == "h"
        elif letter == "A":
            self.row = max(self.row - int(number or 1), 0)
        elif letter == "K":
            self.rows[self.row] = [] if number == "2" else self.rows[self.row][: self.column]

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append([])

    def _put(self, char: str) -> None:
        if self.column == self.width:
            self.column = 0
            self._down()
        row = self.rows[self.row]
        row += " " * (self.column + 1 - len(row))
        row[self.column] = char
        self.column += 1

    @property
    def lines(self) -> list[str]:
        """The lines with something on them."""
        return [line for row in self.rows if (line := "".join(row).rstrip())]
