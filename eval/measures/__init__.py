"""Metrics of the table, by what they have in common: each module scores several in one reading."""
