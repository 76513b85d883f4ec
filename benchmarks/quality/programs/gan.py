"""A GAN that learns a ring of points, with an optimizer for each network."""

import math

import torch
from torch import nn

STEPS = 1000


def network(inputs, outputs):
    return nn.Sequential(
        nn.Linear(inputs, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, outputs)
    )


def real(rows=128):
    angle = 2 * math.pi * torch.rand(rows)
    return torch.stack([angle.cos(), angle.sin()], dim=1) + 0.05 * torch.randn(rows, 2)


def build():
    critic, generator = network(2, 1), network(8, 2)
    optimizers = [
        torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999)) for net in (critic, generator)
    ]
    return critic, generator, optimizers


if __name__ == "__main__":
    critic, generator, (of_critic, of_generator) = build()
    bce = nn.functional.binary_cross_entropy_with_logits
    for step in range(STEPS):
        of_critic.zero_grad()
        said = critic(real())
        on_real = bce(said, torch.ones_like(said))
        on_real.backward()
        points = generator(torch.randn(128, 8))
        said = critic(points.detach())
        on_fake = bce(said, torch.zeros_like(said))
        on_fake.backward()
        of_critic.step()

        of_generator.zero_grad()
        said = critic(points)
        loss = bce(said, torch.ones_like(said))
        loss.backward()
        of_generator.step()
        if step % 100 == 0:
            print(step, on_real.item(), on_fake.item(), loss.item())
