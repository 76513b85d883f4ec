"""The tables of a run's database, in each format that is read."""

from __future__ import annotations

SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE plan (
    lane INTEGER PRIMARY KEY, seed INTEGER NOT NULL, lr REAL NOT NULL, variant TEXT NOT NULL
);
CREATE TABLE lanes (
    lane INTEGER PRIMARY KEY, seed INTEGER NOT NULL, planned INTEGER NOT NULL, lr REAL NOT NULL,
    outcome TEXT NOT NULL, rung INTEGER, seconds REAL NOT NULL, error TEXT, variant TEXT NOT NULL
);
CREATE TABLE evaluations (
    lane INTEGER NOT NULL REFERENCES lanes, step INTEGER NOT NULL, val_loss REAL, metric REAL,
    PRIMARY KEY (lane, step)
) WITHOUT ROWID;
"""
LOOK_ROWS = """
CREATE TABLE health (
    lane INTEGER NOT NULL REFERENCES lanes, place INTEGER NOT NULL, step INTEGER NOT NULL,
    layer TEXT NOT NULL, size INTEGER NOT NULL, trained INTEGER NOT NULL, matrix INTEGER NOT NULL,
    grad_norm REAL, weight_norm REAL, update_ratio REAL, zero_share REAL, nonfinite_share REAL,
    dead_share REAL, clipped_share REAL, PRIMARY KEY (lane, place)
) WITHOUT ROWID"""
"""The looks in the formats before 8, a row for each look at a layer."""
DIGESTS = """
CREATE TABLE digests (
    part TEXT NOT NULL, name TEXT NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (part, name)
) WITHOUT ROWID
"""
"""What format 6 added: a digest of each fact, planned lane and lane, so that a flipped bit is noticed."""
STEP_ROWS = """
CREATE TABLE steps (
    lane INTEGER NOT NULL REFERENCES lanes, step INTEGER NOT NULL, lr REAL NOT NULL,
    loss REAL, held_out_loss REAL, grad_norm REAL, momentum REAL, skipped REAL, PRIMARY KEY (lane, step)
) WITHOUT ROWID"""
"""The steps in the formats before 7, a row a step."""
STEP_BLOBS = """
CREATE TABLE steps (
    lane INTEGER PRIMARY KEY REFERENCES lanes, lr BLOB NOT NULL, loss BLOB NOT NULL, held_out_loss BLOB,
    grad_norm BLOB, momentum BLOB, skipped BLOB
)
"""
"""The steps in format 7: all steps of a lane are one row, and each of its columns is numbers in a blob."""
MEASUREMENTS = """
CREATE TABLE steps (
    lane INTEGER PRIMARY KEY REFERENCES lanes, size INTEGER NOT NULL, lr BLOB NOT NULL, loss BLOB NOT NULL,
    held_out_loss BLOB, grad_norm BLOB, momentum BLOB, skipped BLOB
);
CREATE TABLE health (lane INTEGER PRIMARY KEY REFERENCES lanes, layers TEXT NOT NULL, looks BLOB NOT NULL)
"""
"""What format 8 changed: equal numbers of a column are one, and all looks of a lane are one row."""
VERSION = 8
WITHOUT_DIGESTS = 5
LAYOUTS = {
    WITHOUT_DIGESTS: f"{SCHEMA}{LOOK_ROWS};{STEP_ROWS}",
    6: f"{SCHEMA}{LOOK_ROWS};{STEP_ROWS};{DIGESTS}",
    7: f"{SCHEMA}{LOOK_ROWS};{STEP_BLOBS};{DIGESTS}",
    VERSION: f"{SCHEMA}{MEASUREMENTS};{DIGESTS}",
}
"""The tables of each format that is read."""
