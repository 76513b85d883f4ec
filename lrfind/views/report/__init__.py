"""The report of one run or several, as a single HTML file: its content is computed, then rendered."""
