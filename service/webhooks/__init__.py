"""Webhooks: a signed POST to the address that a job names, when it has ended."""
