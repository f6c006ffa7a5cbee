"""Training small tokenizers of the model's family: byte-level BPE, byte letters first, added tokens last."""
import json

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

PIECES = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*"
          r"|\s*[\r\n]|\s+(?!\S)|\s+")
TEMPLATE = ("{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
            "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim"
            " + '<|eot_id|>' }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}")
NAMES = dict(bos_token="<|startoftext|>", eos_token="<|endoftext|>", pad_token="<|endoftext|>", cls_token="[CLS]")


def byte_alphabet():
    """The 256 byte letters in id order: printable bytes as themselves, then the others."""
    shown = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    return [chr(b) for b in shown] + [chr(256 + i) for i in range(256 - len(shown))]


def train(corpus, entries, added, min_frequency=1):
    """-> tokenizer.json as a dict, with at most `entries` entries before the `added` tokens"""
    tk = Tokenizer(models.BPE())
    tk.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PIECES), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False)])
    tk.decoder = decoders.ByteLevel(add_prefix_space=True, trim_offsets=True, use_regex=True)
    tk.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=entries, min_frequency=min_frequency, show_progress=False, special_tokens=[],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    raw = json.loads(tk.to_str())
    merges = [" ".join(m) if isinstance(m, list) else m for m in raw["model"]["merges"]]
    vocab = {letter: i for i, letter in enumerate(byte_alphabet())}
    for m in merges:
        vocab.setdefault(m.replace(" ", ""), len(vocab))
    raw["model"].update(vocab=vocab, merges=merges)
    raw["added_tokens"] = [dict(id=len(vocab) + i, content=c, single_word=False, lstrip=False, rstrip=False,
                                normalized=False, special=True) for i, c in enumerate(added)]
    return raw


def config():
    """-> tokenizer_config.json as a dict"""
    return dict(add_bos_token=False, add_eos_token=False, chat_template=TEMPLATE, clean_up_tokenization_spaces=False,
                tokenizer_class="PreTrainedTokenizerFast", **NAMES)
