"""Recordings in, stems out: the chunk plan, overlap-add, threads, and the separator itself."""
