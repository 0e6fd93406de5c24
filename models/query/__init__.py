"""What can be asked for: classes of sound, examples, and what is heard in a recording."""
