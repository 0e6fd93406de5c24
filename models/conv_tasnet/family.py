"""Conv-TasNet as a family of importable checkpoints."""

from stemwright.models.conv_tasnet.building import architecture_of, build_model_folder
from stemwright.models.conv_tasnet.origins import LIKE, recognises
from stemwright.models.registry.family import Family

CONV_TASNET = Family(
    name="conv_tasnet",
    variants=LIKE,
    recognises=recognises,
    architecture_of=architecture_of,
    build=build_model_folder,
)
