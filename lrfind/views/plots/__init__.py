"""Plots: what is to be seen is computed first, then drawn on an Axes; none is shown, no style is global."""
