"""The version of lrfind, on the ground floor, so that every floor may say it."""

VERSION = "0.1.0"
