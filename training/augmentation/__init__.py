"""Augmentation as the papers have it: what is drawn, from seed and step, apart from how it is applied."""
