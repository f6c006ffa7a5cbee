"""Text: the tokenizer, the chat template, and the reference's way of cutting a prompt at its pictures."""
import re
from pathlib import Path

from tokenizers import Tokenizer

from . import checkpoint

IMAGE = -200  # stands for a picture among the ids of a prompt
SYSTEM = ("You are a helpful language and vision assistant. You are able to understand the visual content that "
          "the user provides, and assist the user with a variety of tasks using natural language.")


def chat(messages):
    """[(role, text)] -> the prompt; the system turn is always first, empty messages are skipped"""
    turns = [("system", SYSTEM)] + [(role, text) for role, text in messages if text]
    head = "<|start_header_id|>{}<|end_header_id|>\n\n"
    body = "".join(head.format(role) + text.strip() + "<|eot_id|>" for role, text in turns)
    return "<|startoftext|>" + body + head.format("assistant")


def find_tokenizer(directory):
    """tokenizer.json, or the file which a note named TOKENIZER points at from some folder above."""
    directory = Path(directory).resolve()
    if checkpoint.exists(directory / "tokenizer.json"):
        return directory / "tokenizer.json"
    note = directory / "TOKENIZER"
    if note.exists():
        name = re.search(r"\S+\.json(?=\.gz)", note.read_text())[0]
        for above in directory.parents:
            if checkpoint.exists(above / name):
                return above / name
    raise FileNotFoundError(f"{directory}: no tokenizer.json")


class Text:
    def __init__(self, directory):
        self.tokenizer = Tokenizer.from_str(checkpoint.read_bytes(find_tokenizer(directory)).decode())
        self.size = self.tokenizer.get_vocab_size(with_added_tokens=True)
        self.bos, self.mask = self.id("<|startoftext|>"), self.id("<|mdm_mask|>")
        self.suppressed = [self.id(t) for t in ("<|endoftext|>", "<|startoftext|>", "<|start_header_id|>",
                                                "<|end_header_id|>")]

    def id(self, token):
        return self.tokenizer.token_to_id(token)

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids, skip_special=False):
        return self.tokenizer.decode(list(ids), skip_special_tokens=skip_special)

    def prompt_ids(self, prompt):
        """Ids with IMAGE at each picture. The published code takes for granted that the tokenizer puts a
        bos before every chunk and drops it; this one does not, so a real token is lost there."""
        first, *rest = [self.encode(chunk) for chunk in prompt.split("<image>")]
        drop = int(bool(first) and first[0] == self.bos)
        ids = list(first)
        for chunk in rest:
            ids += [IMAGE] + chunk[drop:]
        return ids
