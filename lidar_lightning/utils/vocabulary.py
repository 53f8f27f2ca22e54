"""Whether a tokenizer is there: transformers makes an empty one, without an error, where it finds no vocabulary."""

from typing import Any


def check_vocabulary(what: str, tokenizer: Any, network: Any) -> None:
    """Refuses a tokenizer that knows less than half of the tokens that its network embeds.

    Args:
        what: whose it is and where it should be, for the message.
        tokenizer: of transformers.
        network: text network of transformers that reads its tokens.

    Raises:
        ValueError: naming both numbers.
    """
    known, embedded = len(tokenizer), network.get_input_embeddings().num_embeddings
    if known < embedded / 2:
        raise ValueError(
            f"{what} knows {known} tokens, where its network embeds {embedded}: its vocabulary was not found; connect "
            "once to download it, or give the path of a folder with its files (tokenizer.json, or vocab.json or .txt)"
        )
