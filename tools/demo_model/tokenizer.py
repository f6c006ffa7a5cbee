"""A byte-level BPE with the structure of the LLaDA tokenizer and a small vocabulary.

256 bytes, then merges, then the real tokenizer's 269 added tokens in their order. The special ids differ from the
real ones, so programs look them up by name.
"""
import random
from pathlib import Path

from tools.reference import bpe, text
from tools.reference.golden_inputs import dump

from . import scenes as S

ADDED = (["<|startoftext|>", "<|endoftext|>", "[CLS]", "[gMASK]"] + [f"<|reserved_token_{i}|>" for i in range(252)]
         + ["<|mdm_mask|>"] + [f"<|reserved_token_{i}|>" for i in (253, 254, 255)]
         + ["<role>", "</role>", "<|arithmetic_start|>", "<|arithmetic_end|>", "<|number_start|>", "<|number_end|>",
            "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"])


def corpus(count=6000, seed=5):
    rng = random.Random(seed)
    for _ in range(count):
        _, question, answer = S.example(S.sample_scene(rng), rng)
        yield f"user\n\n\n{question}assistant\n\n{answer}system\n\n{text.SYSTEM} /think /no_think\n{question}\n\n"


def train(directory):
    directory = Path(directory)
    dump(directory / "tokenizer.json", bpe.train(corpus(), 720, ADDED, min_frequency=2), indent=None)
    dump(directory / "tokenizer_config.json", bpe.config())
    dump(directory / "special_tokens_map.json", bpe.NAMES)


class Text(text.Text):
    """The pieces of the chat prompt as ids."""

    def __init__(self, directory):
        super().__init__(directory)
        self.eot = self.id("<|eot_id|>")

    def head(self):
        """Everything before the picture"""
        return self.encode(text.chat([("user", "<image>")]).split("<image>")[0])

    def tail(self, question, keep_newline=False):
        """Everything after it; the published code loses the first token, the line end"""
        t = self.encode(text.chat([("user", f"<image>\n{question}")]).split("<image>")[1])
        return t if keep_newline else t[1:]

    def answer(self, ids):
        """The text before the first <|eot_id|>"""
        ids = list(ids)
        return self.decode(ids[:ids.index(self.eot)] if self.eot in ids else ids, skip_special=True)
