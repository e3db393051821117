"""An independent reference for the tests of sluicegate-local-embedder: numpy alone, in float64.

    python3 tests/reference.py        writes tests/golden.json anew; only numpy is needed

It shares no code with the crate. The tokenizer is BERT's basic and WordPiece algorithm, the network
is written from the paper's formulas, one text at a time and hence without padding or masks. The
weights come of a formula that `tests/integration/model.rs` repeats, so that none are stored.
"""

import json
import math
import unicodedata
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
HIDDEN, WIDE, LAYERS, HEADS, POSITIONS, SEGMENTS = 32, 64, 2, 4, 24, 2
EPSILON = 1e-12

TEXTS = [
    "How do I reset my password?",
    "HOW DO I RESET MY PASSWORDS",
    "the quick brown fox jumped over the lazy dog.",
    "na\u00efve caf\u00e9 r\u00e9sum\u00e9",
    "\u65e5\u672c",
    "weather in Paris today!",
    "1+2=22, is it not?",
    "unbreakable zzz qqq",
    "a",
    "\ttabs\nand  spaces\u0000 ",
    "the [SEP] a [MASK]",
    # As long as the model takes: 22 tokens and the two special ones.
    "a the " * 11,
]


def fnv1a(name):
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def tensor(name, *shape):
    """Element i: the top 24 bits of splitmix64 seeded with fnv1a(name), at step i, as a number in [-0.5, 0.5)."""
    seed = fnv1a(name)
    values = []
    for index in range(math.prod(shape)):
        z = (seed + index * 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        z ^= z >> 31
        values.append((z >> 40) / 2**24 - 0.5)
    return np.array(values).reshape(shape)


def is_punctuation(char):
    code = ord(char)
    ascii_symbol = 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
    return ascii_symbol or unicodedata.category(char).startswith("P")


def basic_words(text):
    """Clean, lower case, no accents; punctuation and Chinese characters are words of their own."""
    spaced = ""
    for char in text:
        if char in "\t\n\r" or unicodedata.category(char) == "Zs":
            spaced += " "
        elif ord(char) in (0, 0xFFFD) or unicodedata.category(char).startswith("C"):
            continue
        elif 0x4E00 <= ord(char) <= 0x9FFF:
            spaced += f" {char} "
        else:
            spaced += char
    plain = unicodedata.normalize("NFD", spaced.lower())
    plain = "".join(char for char in plain if unicodedata.category(char) != "Mn")
    return "".join(f" {char} " if is_punctuation(char) else char for char in plain).split()


def wordpiece(word, vocabulary):
    ids, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = word[start:end] if start == 0 else "##" + word[start:end]
            if piece in vocabulary:
                ids.append(vocabulary[piece])
                start = end
                break
        else:
            return [vocabulary["[UNK]"]]
    return ids


def tokenize(text, vocabulary):
    ids = [vocabulary["[CLS]"]]
    for part in text.replace("[SEP]", "\x01[SEP]\x01").replace("[MASK]", "\x01[MASK]\x01").split("\x01"):
        if part in ("[SEP]", "[MASK]"):
            ids.append(vocabulary[part])
        else:
            for word in basic_words(part):
                ids += wordpiece(word, vocabulary)
    return ids + [vocabulary["[SEP]"]]


def linear(x, name, outputs):
    return x @ tensor(f"{name}.weight", outputs, x.shape[-1]).T + tensor(f"{name}.bias", outputs)


def norm(x, name):
    scale, shift = 1 + tensor(f"{name}.weight", HIDDEN), tensor(f"{name}.bias", HIDDEN)
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON) * scale + shift


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def attention(x, name):
    width = HIDDEN // HEADS
    query, key, value = (linear(x, f"{name}.self.{part}", HIDDEN) for part in ("query", "key", "value"))
    heads = []
    for head in range(HEADS):
        at = slice(head * width, (head + 1) * width)
        shares = np.exp(query[:, at] @ key[:, at].T / math.sqrt(width))
        heads.append(shares / shares.sum(-1, keepdims=True) @ value[:, at])
    return linear(np.concatenate(heads, -1), f"{name}.output.dense", HIDDEN)


def encode(ids, vocabulary_size):
    x = tensor("embeddings.word_embeddings.weight", vocabulary_size, HIDDEN)[ids]
    x = x + tensor("embeddings.position_embeddings.weight", POSITIONS, HIDDEN)[: len(ids)]
    x = x + tensor("embeddings.token_type_embeddings.weight", SEGMENTS, HIDDEN)[0]
    x = norm(x, "embeddings.LayerNorm")
    for layer in (f"encoder.layer.{index}" for index in range(LAYERS)):
        x = norm(x + attention(x, f"{layer}.attention"), f"{layer}.attention.output.LayerNorm")
        wide = gelu(linear(x, f"{layer}.intermediate.dense", WIDE))
        x = norm(x + linear(wide, f"{layer}.output.dense", HIDDEN), f"{layer}.output.LayerNorm")
    return x


def unit(vector):
    return [round(float(value), 9) for value in vector / np.linalg.norm(vector)]


def main():
    words = (HERE / "vocabulary.txt").read_text(encoding="utf-8").split()
    vocabulary = {word: index for index, word in enumerate(words)}
    cases = []
    for text in TEXTS:
        ids = tokenize(text, vocabulary)
        hidden = encode(ids, len(words))
        mean, cls = unit(hidden.mean(0)), unit(hidden[0])
        cases.append({"text": text, "tokens": len(ids), "mean": mean, "cls": cls})
    lines = ",\n".join(json.dumps(case) for case in cases)
    (HERE / "golden.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
