"""Universal separation: a U-Net that is told by a condition which sound to take out."""
