"""The live view of a run: what is known at a moment, its picture, and where that is shown."""
