"""Views of results: text, plots and snippets. They read results and never train."""
