"""Tokenizers that make one token of every word of the captions."""

from collections import Counter

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer, T5TokenizerFast

from lidar_lightning.shapes.grammar import LENGTH, words


def merges(vocabulary: tuple[str, ...]) -> list[tuple[str, str]]:
    """Byte-pair merges, the most frequent pair first, until every word is one token (Sennrich et al., 1508.07909)."""
    splits = [[*word[:-1], word[-1] + "</w>"] for word in vocabulary]
    found = []
    while any(len(split) > 1 for split in splits):
        pairs = Counter(pair for split in splits for pair in zip(split, split[1:], strict=False))
        pair = max(pairs, key=lambda p: (pairs[p], p))
        found.append(pair)
        for split in splits:
            i = 0
            while i < len(split) - 1:
                if (split[i], split[i + 1]) == pair:
                    split[i : i + 2] = ["".join(pair)]
                i += 1
    return found


def clip_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer of 16 tokens; words that captions do not have are split into letters."""
    letters = sorted(ByteLevel.alphabet())
    joined = merges(words())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *map("".join, joined)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=joined, model_max_length=LENGTH)


def t5_tokenizer() -> T5TokenizerFast:
    """A T5 tokenizer; words that captions do not have are split into letters."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -5.0)]
    pieces += [("▁" + word, -1.0) for word in words()] + [(letter, -10.0) for letter in letters]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=LENGTH)
