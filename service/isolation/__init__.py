"""Untrusted recordings are decoded in a process of their own, which can neither hang nor harm this one.

`open_isolated` is `core.audio.source.open_source` for files from strangers. The process is a fresh
interpreter without this one's memory, environment or descriptors. It may not write files, has limits of
memory and of processor time, and is killed when it falls silent. What comes back over a pipe is checked
before it is used.
"""
