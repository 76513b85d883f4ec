"""Explanations of why data, model and loss do not fit together, in terms of the user's own code."""
