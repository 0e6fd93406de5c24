"""Hybrid Demucs (v3) and Hybrid Transformer Demucs (v4)."""
