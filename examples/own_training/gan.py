"""A GAN: two networks with an optimizer each, in one step, and a score, because their losses do not tell.

The sum of the two losses hardly changes while the generator learns. So `find` also gets a score: the distance
between what the generator makes and real points. The two optimizers keep the ratio of their lrs.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

import lrfind

STEPS, BATCH, NOISE = 400, 128, 4
Optimizers = list[torch.optim.Optimizer]


def real_points() -> Tensor:
    """Draw points (128, 2) near a circle."""
    angle = 2 * math.pi * torch.rand(BATCH)
    return torch.stack([angle.cos(), angle.sin()], dim=1) + 0.05 * torch.randn(BATCH, 2)


def network(inputs: int, outputs: int, width: int = 32) -> nn.Sequential:
    """Make a network with two hidden layers."""
    layers = [nn.Linear(inputs, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def train_step(generator: nn.Module, critic: nn.Module, optimizers: Optimizers, real: Tensor) -> Tensor:
    """Train the critic, then the generator, on one batch; return the sum of their losses."""
    for_generator, for_critic = optimizers
    fake = generator(torch.randn(len(real), NOISE))

    critic_loss = (
        functional.softplus(-critic(real)).mean() + functional.softplus(critic(fake.detach())).mean()
    )
    for_critic.zero_grad()
    critic_loss.backward()
    for_critic.step()

    generator_loss = functional.softplus(-critic(fake)).mean()
    for_generator.zero_grad()
    generator_loss.backward()
    for_generator.step()
    return critic_loss.detach() + generator_loss.detach()


@torch.no_grad()
def distance(generator: nn.Module, real: Tensor) -> Tensor:
    """Return the energy distance between real points and those that the generator makes (Szekely 2003)."""
    fake = generator(torch.randn(len(real), NOISE))
    pairs = len(real) * (len(real) - 1)
    spread = (torch.cdist(real, real).sum() + torch.cdist(fake, fake).sum()) / pairs
    return 2 * torch.cdist(real, fake).mean() - spread


def build() -> tuple[nn.Module, nn.Module, Optimizers]:
    """Make both networks and their optimizers; the critic learns twice as fast as the generator."""
    torch.manual_seed(0)
    generator, critic = network(NOISE, 2), network(2, 1)
    for_generator = torch.optim.Adam(generator.parameters(), lr=1e-4, betas=(0.5, 0.9))
    for_critic = torch.optim.Adam(critic.parameters(), lr=2e-4, betas=(0.5, 0.9))
    return generator, critic, [for_generator, for_critic]


def train(generator: nn.Module, critic: nn.Module, optimizers: Optimizers, steps: int) -> list[float]:
    """Train, and return the sum of the losses of every step."""
    return [train_step(generator, critic, optimizers, real_points()).item() for _ in range(steps)]


def find(generator: nn.Module, critic: nn.Module, optimizers: Optimizers) -> lrfind.Recommendation:
    """Find the lr of the generator, and with it that of the critic, for 400 steps."""
    return lrfind.find(
        step=lambda real: train_step(generator, critic, optimizers, real),
        data=real_points,
        optimizers=optimizers,
        score=lambda real: distance(generator, real),
        steps=STEPS,
    )


if __name__ == "__main__":
    generator, critic, optimizers = build()
    best = find(generator, critic, optimizers)
    before = distance(generator, real_points())
    best.apply(optimizers)
    train(generator, critic, optimizers, STEPS)
    after = distance(generator, real_points())
    print(f"{best}\ndistance: from {before:.3f} to {after:.3f}")  # noqa: T201 - a script of its own
