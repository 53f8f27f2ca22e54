"""D-CBG, against its own definition written out over the states."""

import numpy as np

from lidar_lightning.samplers.dcbg import DCBG
from tests.exact import LENGTH, STATES, VOCAB, total_variation
from tests.token_laws import CHAIN, Chain, has_law, product, tokens_task


def guided_matrices(chain, gamma):
    """The matrix of each step of a chain, guided by D-CBG as it is defined."""
    matrices = []
    for values, tokens in zip(chain.values, chain.tokens, strict=False):
        change = np.zeros_like(tokens)
        for x, place, token in np.ndindex(change.shape):
            edited = STATES[x].copy()
            edited[place] = token
            change[x, place, token] = values[edited @ VOCAB ** np.arange(LENGTH)[::-1]]
        guided = tokens * np.exp(gamma * change)
        matrices.append(product(guided / guided.sum(-1, keepdims=True)))
    return matrices


def with_guided(chain, matrices, places):
    return chain.law([matrices[i] if i in places else plain for i, plain in enumerate(chain.matrices)])


def test_dcbg_is_its_own_definition():
    matrices = guided_matrices(CHAIN, 1.5)
    assert has_law(DCBG(1.5)(tokens_task(), 2000), CHAIN.law(matrices))
    # Of 6 steps 2 are guided, in the middle of either half.
    assert has_law(DCBG(1.5, calls=6 + 2 * 9)(tokens_task(), 2000), with_guided(CHAIN, matrices, (1, 4)))


def test_dcbg_guides_where_it_acts():
    """What guiding one step changes of the law that the run ends in, by enumeration, with the steps of UDLM's solver.

    The first step is from pure noise and the last from settled tokens: neither changes anything.
    """
    chain = Chain(32, power=2.0)
    matrices = guided_matrices(chain, 1.0)
    effects = [total_variation(with_guided(chain, matrices, (i,)), chain.law()) for i in range(32)]
    assert max(effects[0], effects[-1]) < 0.1 * max(effects)
    for paid in range(1, 7):
        places = [i for i, guided in enumerate(DCBG(calls=32 + paid * 9).places(32, LENGTH, VOCAB)) if guided]
        assert len(places) == paid
        # Guided at the ends of equal stretches, the last of them would change less than a tenth of the best.
        assert min(effects[i] for i in places[-1:]) > 0.3 * max(effects)
        assert np.mean([effects[i] for i in places]) > 0.5 * max(effects)


def test_dcbg_guides_some_positions_of_one_more_step():
    places = DCBG(calls=6 + 9 + 6).places(6, LENGTH, VOCAB)
    assert places == [[], [0, 1, 2], [], [], [0, 1], []]
