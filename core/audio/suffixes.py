"""Names by which recordings are looked for in folders; a file that is named itself may have any."""

AUDIO_SUFFIXES = frozenset(
    ".aac .ac3 .aif .aifc .aiff .alac .amr .ape .au .caf .dsf .eac3 .flac .m4a .m4b .mka .mp2 .mp3 .mp4"
    " .mkv .mov .mpc .oga .ogg .opus .ra .rf64 .snd .spx .tta .w64 .wav .wave .weba .webm .wma .wv".split()
)
