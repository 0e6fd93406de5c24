"""BSS Eval: how near estimates are to references, and whether by interference, artefacts or filtering."""
