"""Demucs v1 and v2, transcribed from the paper: an oracle of its own, on a state dict."""

import torch
from julius.resample import resample_frac
from torch import nn
from torch.nn import functional


class Transcription:
    """The network of the paper, step by step from its description, on a state dict."""

    def __init__(self, state: dict[str, torch.Tensor], *, resample: bool) -> None:
        self.state, self.resample = state, resample
        dim = state["lstm.linear.bias"].numel()
        self.lstm = nn.LSTM(dim, dim, num_layers=2, bidirectional=True)
        prefix = "lstm.lstm."
        lstm = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        self.lstm.load_state_dict(lstm)

    def conv(self, x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        return functional.conv1d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"], stride)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.resample:
            x = resample_frac(x, 1, 2)
        skips = []
        for index in range(6):
            x = functional.relu(self.conv(x, f"encoder.{index}.0", stride=4))
            x = functional.glu(self.conv(x, f"encoder.{index}.2"), dim=1)
            skips.append(x)
        x = self.lstm(x.permute(2, 0, 1))[0].permute(1, 2, 0)
        x = self.linear(x)
        for index in range(6):
            skip = skips.pop()
            delta = skip.shape[-1] - x.shape[-1]
            x = x + skip[..., delta // 2 : skip.shape[-1] - (delta - delta // 2)]
            x = functional.glu(self.conv(x, f"decoder.{index}.0"), dim=1)
            weight, bias = self.state[f"decoder.{index}.2.weight"], self.state[f"decoder.{index}.2.bias"]
            x = functional.conv_transpose1d(x, weight, bias, stride=4)
            x = functional.relu(x) if index < 5 else x
        if self.resample:
            x = resample_frac(x, 2, 1)
        return x.reshape(x.shape[0], 4, 2, -1)

    def linear(self, x: torch.Tensor) -> torch.Tensor:
        weight, bias = self.state["lstm.linear.weight"], self.state["lstm.linear.bias"]
        return functional.linear(x.transpose(1, 2), weight, bias).transpose(1, 2)
