"""IBM-CNN: singing voice by classifying every bin of a magnitude spectrogram."""
