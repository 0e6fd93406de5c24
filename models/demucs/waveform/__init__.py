"""The Demucs networks that work on the waveform alone: v1 and v2 (the paper's), and v3's time-domain one."""
