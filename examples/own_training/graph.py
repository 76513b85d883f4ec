"""A graph network: every step sees the whole graph, and its loss is that of the nodes with a known label.

The graph is the only batch, so the data is a list with one entry.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

import lrfind

STEPS = 200


class Graph(NamedTuple):
    """The nodes of a graph (N) and its edges; `known` says which labels may be used."""

    x: Tensor  # (N, F)
    adjacency: Tensor  # (N, N), sparse, with rows that sum to 1
    y: Tensor  # (N,)
    known: Tensor  # (N,)


class GCN(nn.Module):
    """Two layers, each of which takes the mean over a node's neighbours."""

    def __init__(self, features: int, classes: int, width: int = 16) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(features, width), nn.Linear(width, classes)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """Return the logits of every node."""
        hidden = torch.sparse.mm(adjacency, self.first(x)).relu()
        return torch.sparse.mm(adjacency, self.second(self.dropout(hidden)))


def communities(nodes: int = 240, classes: int = 3, features: int = 8) -> Graph:
    """Draw a graph with more edges inside its communities than between them, and noisy features."""
    y = torch.arange(nodes) % classes
    chance = torch.where(y[:, None] == y, 0.1, 0.01)
    edges = torch.rand(nodes, nodes).lt(chance).triu(1)
    dense = (edges | edges.T).float() + torch.eye(nodes)
    x = torch.randn(nodes, features) + 0.3 * torch.randn(classes, features)[y]
    return Graph(x, (dense / dense.sum(1, keepdim=True)).to_sparse(), y, torch.rand(nodes) < 0.3)


def loss_of(model: GCN, graph: Graph) -> Tensor:
    """Return the cross-entropy of the nodes whose labels are known."""
    logits = model(graph.x, graph.adjacency)
    return nn.functional.cross_entropy(logits[graph.known], graph.y[graph.known])


def build() -> tuple[GCN, torch.optim.Optimizer, Graph]:
    """Make the model, the optimizer and the graph."""
    torch.manual_seed(0)
    graph = communities()
    model = GCN(features=8, classes=3)
    return model, torch.optim.Adam(model.parameters(), weight_decay=5e-4), graph


def train(model: GCN, optimizer: torch.optim.Optimizer, graph: Graph, steps: int) -> list[float]:
    """Train, and return the loss of every step."""
    losses = []
    for _ in range(steps):
        loss = loss_of(model, graph)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def find(model: GCN, optimizer: torch.optim.Optimizer, graph: Graph) -> lrfind.Recommendation:
    """Find the lr for 200 steps."""
    return lrfind.find(model, optimizer, data=[graph], loss=lambda graph: loss_of(model, graph), steps=STEPS)


if __name__ == "__main__":
    model, optimizer, graph = build()
    best = find(model, optimizer, graph)
    best.apply(optimizer)
    losses = train(model, optimizer, graph, STEPS)
    print(f"{best}\nloss: from {losses[0]:.2f} to {losses[-1]:.2f}")  # noqa: T201 - a script of its own
