"""Short-time Fourier transforms as data, and their host form."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Transform(BaseModel):
    """Placeholder fields; filled in by the transforms work."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    n_fft: int
    hop: int
    window: Literal["hann", "rectangular"] = "hann"
