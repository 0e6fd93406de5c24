"""What players want of stems: overviews of the waveform, and short pieces that join without a seam."""
