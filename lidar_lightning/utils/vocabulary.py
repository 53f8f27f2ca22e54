"""Whether a tokenizer has its vocabulary: transformers makes an empty one, without an error, where it finds none."""

from typing import Any


def check_vocabulary(what: str, tokenizer: Any, network: Any) -> None:
    """Refuses a tokenizer that knows less than half of the tokens that its network embeds.

    Args:
        what: the beginning of the message: whose tokenizer it is, and where it should be.
        tokenizer: a tokenizer of transformers.
        network: the text network of transformers that reads its tokens.

    Raises:
        ValueError: with both numbers.
    """
    known, embedded = len(tokenizer), network.get_input_embeddings().num_embeddings
    if known < embedded / 2:
        raise ValueError(
            f"{what} knows {known} tokens, where its network embeds {embedded}: its vocabulary was not found; connect "
            "once to download it, or give the path of a folder with its files (tokenizer.json, or vocab.json or .txt)"
        )
