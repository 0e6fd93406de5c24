"""What every part of stemwright shares: errors, audio input and output, transforms."""
