"""Audio in and out: decode, resample, channel rules, encode, tags."""
