"""Views of results: text, plots and snippets. They read summaries and never train."""
