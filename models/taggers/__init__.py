"""Taggers: networks that hear which sounds there are."""
