"""Plots: each computes its values first, then draws them on an Axes. None is shown, no style is global."""
