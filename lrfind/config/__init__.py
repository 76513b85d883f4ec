"""The config: from YAML text to frozen models, with a place for every mistake. Nothing here imports torch."""
