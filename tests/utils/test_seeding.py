"""Random numbers of each sample are those that torch draws from the sample's own stream."""

import pytest
import torch

from lidar_lightning.utils.seeding import Generators

DRAWS = {
    "rand": lambda shape, stream: torch.rand(shape, generator=stream, dtype=torch.float64),
    "randn": lambda shape, stream: torch.randn(shape, generator=stream),
    "randint": lambda shape, stream: torch.randint(35, shape, generator=stream),
}


@pytest.mark.parametrize("shape", [(), (1,), (7,), (16,), (24, 35), (4, 16, 16)])
@pytest.mark.parametrize("name", DRAWS)
def test_rows_are_what_torch_draws_from_their_streams(name, shape):
    ours, given = Generators([3, 1, 4]), Generators([3, 1, 4])
    first = getattr(ours, name)(*([35] if name == "randint" else []), *shape)
    expected = torch.stack([DRAWS[name](shape, stream) for stream in given.streams])
    assert first.dtype == expected.dtype and torch.equal(first, expected)
    assert all(torch.equal(a.get_state(), b.get_state()) for a, b in zip(ours.streams, given.streams, strict=True))
