"""Adapters for frameworks: each finds the rate for a training as its framework describes it."""
