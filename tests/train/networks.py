"""Networks for the tests of folding and export."""

from torch import nn


def lively(network):
    """The network, in evaluation mode, with batch normalisations that do something."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, -2, 2)
            nn.init.uniform_(layer.bias, -1, 1)
            nn.init.uniform_(layer.running_mean, -1, 1)
            nn.init.uniform_(layer.running_var, 0.1, 3)
    return network.eval()
