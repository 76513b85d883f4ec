"""Sinks: trackers of experiments to which a run is written besides its directory."""
