"""Conv-TasNet: masks on a learned filter bank, for speech and for music, also causal and streamed."""
