"""Untrusted recordings are decoded in a process of their own, which can neither hang nor harm this one.

`open_isolated` is `core.audio.source.open_source` for files from strangers. The process is forked from one
that has nothing of this one's memory, environment or descriptors, and never opens a recording itself. It may
not write files, has limits of memory and of processor time, and is killed when it falls silent. What comes
back over a pipe is checked before it is used.
"""
