import torch
from torch import nn

from stemwright.training.averaging import WeightAverage, averaged


def trained(average_of: nn.Module, decay: float, steps: int) -> tuple[WeightAverage, dict[str, torch.Tensor]]:
    """Train a little; the average, and the same by its definition."""
    average = WeightAverage(average_of, decay)
    expected = {name: tensor.clone() for name, tensor in average_of.state_dict().items()}
    optimiser = torch.optim.SGD(average_of.parameters(), 0.1)
    for step in range(1, steps + 1):
        optimiser.zero_grad()
        average_of(torch.randn(4, 3)).square().sum().backward()
        optimiser.step()
        average.update()
        kept = min(decay, (1 + step) / (10 + step))
        for name, tensor in average_of.state_dict().items():
            floats = tensor.is_floating_point()
            expected[name] = kept * expected[name] + (1 - kept) * tensor if floats else tensor.clone()
    return average, expected


def test_the_average_is_the_definitions_for_parameters_and_norms() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    average, expected = trained(net, 0.9, 30)
    for name, tensor in expected.items():
        torch.testing.assert_close(average.tensors[name], tensor)
    assert average.tensors["1.num_batches_tracked"] == 30


def test_a_network_has_the_averaged_weights_for_a_while() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    average, _ = trained(net, 0.9, 5)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with averaged(net, average) as changed:
        assert not changed.training
        assert torch.equal(net.state_dict()["0.weight"], average.tensors["0.weight"])
        assert not torch.equal(net.state_dict()["0.weight"], before["0.weight"])
    assert net.training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_a_restored_average_goes_on() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    average, _ = trained(net, 0.9, 5)
    other = WeightAverage(net, 0.9)
    other.load_state_dict(average.state_dict())
    assert other.updates == 5
    average.update()
    other.update()
    for name, tensor in average.tensors.items():
        torch.testing.assert_close(tensor, other.tensors[name])
