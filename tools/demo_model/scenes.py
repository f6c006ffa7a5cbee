"""Synthetic scenes: what is drawn, what is true about it, and what can be said or asked about it.

A scene is a plain dict:
  {"size": [W, H], "background": "grey",
   "objects": [{"shape": "circle", "colour": "red", "size": "large", "x": .., "y": .., "r": ..}, ...]}   # left to right
Coordinates and the radius are in pixels. "digit 7" and 'word "cat"' are legal shapes: printed text.
Two objects of one scene never share both shape and colour, so "the red circle" is always one object.
"""
import io
import math
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SHAPES = ["circle", "square", "triangle", "star", "cross", "ring", "diamond"]
DIGITS = [f"digit {i}" for i in range(10)]
WORDS = [f'word "{w}"' for w in ("cat", "dog", "sun", "map", "go", "stop", "yes", "hot")]
ALL_SHAPES = SHAPES + DIGITS + WORDS
COLOURS = {"red": (215, 30, 35), "green": (35, 150, 55), "blue": (35, 70, 215), "yellow": (242, 218, 40),
           "orange": (243, 128, 22), "purple": (125, 45, 165), "pink": (243, 125, 188), "black": (25, 25, 28)}
BACKGROUNDS = {"white": (246, 246, 246), "grey": (168, 168, 168), "beige": (226, 206, 166),
               "mint": (184, 232, 204), "lilac": (212, 200, 240)}
SIZES = {"small": (0.105, 0.13), "large": (0.18, 0.225)}  # radius / shorter side
WORD_SIZES = {"small": (0.15, 0.18), "large": (0.26, 0.30)}  # half the width / shorter side
NUMBERS = ["zero", "one", "two", "three", "four"]
COUNT_WEIGHTS = [24, 34, 27, 15]  # of 1 to 4 objects
CANVASES = [(84, 84), (112, 84), (84, 112), (160, 120), (120, 160), (168, 168)]
CANVAS_WEIGHTS = [55, 15, 15, 5, 5, 5]
MARGIN = 0.12  # by which one offset must exceed the other, as a share of the picture


# ------------------------------------------------------------------ sampling
def sample_scene(rng, canvas=None, count=None, words=0.0):
    """Draw a random scene: objects apart from each other, left-to-right order and the relations of neighbours clear.
    `words`: share of scenes with a printed word, which have two objects at most"""
    w, h = canvas or rng.choices(CANVASES, CANVAS_WEIGHTS)[0]
    word = rng.random() < words
    n = count or rng.choices([1, 2, 3, 4], COUNT_WEIGHTS)[0]
    n = min(n, 2) if word else n
    while True:
        objects = _place(_things(rng, n, word, min(w, h)), w, h, rng)
        if objects:
            return dict(size=[w, h], background=rng.choice(list(BACKGROUNDS)), objects=objects)


def _things(rng, n, word, side):
    """n objects without places; no digit among four, so that the caption fits into 64 tokens"""
    things, seen = [], set()
    while len(things) < n:
        old = rng.choice(things) if things and rng.random() < .25 else None  # one that shares its shape or colour
        if word and not things:
            shape = rng.choice(WORDS)
        elif old and rng.random() < .5 and old["shape"] in SHAPES:
            shape, old = old["shape"], None
        else:
            shape = rng.choice(DIGITS if n < 4 and rng.random() < .15 else SHAPES)
        colour = old["colour"] if old else rng.choice(list(COLOURS))
        if (shape, colour) in seen:
            continue
        seen.add((shape, colour))
        size = rng.choice(["small", "large"])
        lo, hi = (WORD_SIZES if shape in WORDS else SIZES)[size]
        things.append(dict(shape=shape, colour=colour, size=size, r=side * rng.uniform(lo, hi)))
    return things


def _place(things, w, h, rng):
    """-> the objects from left to right with their places, or None: these do not fit"""
    side, placed = min(w, h), []
    for o in sorted(things, key=lambda o: -o["r"]):
        m = o["r"] * 1.05
        for _ in range(30):
            o["x"], o["y"] = rng.uniform(m, w - m), rng.uniform(m, h - m)
            if all(_apart(o, other, side) for other in placed):
                break
        else:
            return None
        placed.append(o)
    placed.sort(key=lambda o: o["x"])
    for o in placed:
        o.update(x=round(o["x"], 1), y=round(o["y"], 1), r=round(o["r"], 1))
    return placed if all(clear(a, b, (w, h)) for a, b in zip(placed, placed[1:])) else None


def _apart(a, b, side):
    dx, dy = abs(a["x"] - b["x"]), abs(a["y"] - b["y"])
    return math.hypot(dx, dy) > a["r"] + b["r"] + 0.03 * side and dx > 0.08 * side


def clear(a, b, size):
    """Whether nobody would hesitate between, say, "left of" and "above": in pixels and, as the model sees the whole
    picture squeezed into a square, in shares of width and height."""
    dx, dy = abs(a["x"] - b["x"]), abs(a["y"] - b["y"])
    pixels, shares = (dx - dy) / min(size), dx / size[0] - dy / size[1]
    return abs(shares) > MARGIN and abs(pixels) > MARGIN and (shares > 0) == (pixels > 0)


def relation(a, b):
    """How object a lies relative to b: left of, right of, above, below (the larger offset decides)."""
    dx, dy = b["x"] - a["x"], b["y"] - a["y"]
    if abs(dx) >= abs(dy):
        return "left of" if dx > 0 else "right of"
    return "above" if dy > 0 else "below"


# ------------------------------------------------------------------ drawing
_fonts = {}


def printed(o):
    """The text of a digit or word"""
    return o["shape"].split()[1].strip('"')


def _font(px):
    return _fonts.setdefault(px, ImageFont.load_default(size=px))


def _outline(shape, cx, cy, r, angle):
    """Polygon of a shape; rings are circles with a hole added by the caller."""
    def at(points):
        c, s = math.cos(angle), math.sin(angle)
        return [(cx + r * (x * c - y * s), cy + r * (x * s + y * c)) for x, y in points]
    if shape in ("circle", "ring"):
        return at([(math.cos(t * math.pi / 18), math.sin(t * math.pi / 18)) for t in range(36)])
    if shape == "square":
        return at([(-.82, -.82), (.82, -.82), (.82, .82), (-.82, .82)])
    if shape == "diamond":
        return at([(0, -1.05), (.72, 0), (0, 1.05), (-.72, 0)])
    if shape == "triangle":
        return at([(0, -1), (.95, .8), (-.95, .8)])
    if shape == "star":
        return at([((1.08 if k % 2 == 0 else .45) * math.sin(k * math.pi / 5),
                    -(1.08 if k % 2 == 0 else .45) * math.cos(k * math.pi / 5)) for k in range(10)])
    if shape == "cross":
        a, b = .3, .98
        return at([(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)])
    raise ValueError(shape)


def _draw(draw, o, scale, fill, hole, angle):
    cx, cy, r = o["x"] * scale, o["y"] * scale, o["r"] * scale
    if o["shape"] in WORDS:
        px = max(4, int(20 * 2 * r / _font(20).getlength(printed(o))))
        draw.text((cx, cy), printed(o), font=_font(px), fill=fill, anchor="mm", stroke_width=round(px * .04),
                  stroke_fill=fill)
        return
    if o["shape"] in DIGITS:
        px = max(4, int(r * 2.3))
        draw.text((cx, cy), printed(o), font=_font(px), fill=fill, anchor="mm",
                  stroke_width=max(0, round(r * 0.07)), stroke_fill=fill)
        return
    draw.polygon(_outline(o["shape"], cx, cy, r, angle), fill=fill)
    if o["shape"] == "ring":
        draw.polygon(_outline("circle", cx, cy, r * 0.55, 0), fill=hole)


TILT = {"square": .2, "diamond": .12, "triangle": .3, "star": .6, "cross": .2}


def _texture(w, h, rng, npr):
    """Light and structure of a background -> f32 [h, w], some grey levels up and down"""
    across, down = np.linspace(-1, 1, w, dtype=np.float32)[None], np.linspace(-1, 1, h, dtype=np.float32)[:, None]
    kind, height = rng.random(), rng.uniform(3, 12)
    if kind < .25:
        return np.zeros((h, w), np.float32)
    if kind < .5:  # soft light from one side
        return across * rng.uniform(-12, 12) + down * rng.uniform(-12, 12)
    if kind < .65:  # stripes
        angle, waves = rng.uniform(0, math.pi), rng.uniform(6, 30)
        return height * np.sin(waves * (across * math.cos(angle) + down * math.sin(angle)))
    if kind < .8:  # checks
        waves = rng.uniform(6, 24)
        return height * np.sign(np.sin(waves * across)) * np.sign(np.sin(waves * down))
    n = rng.randint(3, 9)  # blotches
    blotches = Image.fromarray(npr.standard_normal((n, n)).astype(np.float32))
    return height * .7 * np.asarray(blotches.resize((w, h), Image.BICUBIC))


def render(scene, rng):
    """-> (RGB image, 'L' image holding object number + 1 per pixel)."""
    w, h = scene["size"]
    npr = np.random.default_rng(rng.getrandbits(32))
    ss = 3
    jit = lambda c, j: tuple(int(min(255, max(0, v + rng.uniform(-j, j)))) for v in c)
    back = jit(BACKGROUNDS[scene["background"]], 7)
    big, cover = Image.new("RGB", (w * ss, h * ss), back), Image.new("L", (w * ss, h * ss), 0)
    ids = Image.new("L", (w, h), 0)
    db, dc, di = ImageDraw.Draw(big), ImageDraw.Draw(cover), ImageDraw.Draw(ids)
    di.fontmode = "1"
    for k, o in enumerate(scene["objects"]):
        ang = rng.uniform(-1, 1) * TILT.get(o["shape"], 0)
        _draw(db, o, ss, jit(COLOURS[o["colour"]], 14), back, ang)
        _draw(dc, o, ss, 255, 0, ang)
        if o["shape"] in WORDS:  # thin letters: their box
            di.rectangle((o["x"] - o["r"], o["y"] - o["r"] * .4, o["x"] + o["r"], o["y"] + o["r"] * .4), fill=k + 1)
        else:
            _draw(di, o, 1, k + 1, k + 1, ang)
    a = np.asarray(big.reduce(ss), dtype=np.float32)
    free = 1 - np.asarray(cover.reduce(ss), dtype=np.float32) / 255
    a = a + (_texture(w, h, rng, npr) * free)[..., None]
    if rng.random() < .7:  # sensor noise
        a = a + npr.standard_normal((h, w, 3), dtype=np.float32) * rng.uniform(0, 9)
    im = Image.fromarray(np.clip(a + .5, 0, 255).astype(np.uint8), "RGB")
    if rng.random() < .4:  # JPEG artefacts
        buf = io.BytesIO()
        im.save(buf, "JPEG", quality=rng.randint(50, 95))
        im = Image.open(io.BytesIO(buf.getvalue())).convert("RGB")
    return im, ids


# ------------------------------------------------------------------ language
def name(o, size=False):
    return (o["size"] + " " if size else "") + o["colour"] + " " + o["shape"]


def a(phrase):
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def listing(parts):
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def sentence(text):
    return text[0].upper() + text[1:] + "."


def _things_said(s, size=True):
    return listing([a(name(x, size)) for x in s["objects"]])


def _relations(s):
    o = s["objects"]
    return [f"The {name(x)} is {relation(x, y)} the {name(y)}." for x, y in zip(o, o[1:])]


def long_caption(s):
    n, back = len(s["objects"]), s["background"]
    head = "There is one object" if n == 1 else f"There are {NUMBERS[n]} objects"
    return " ".join([f"{head} on a {back} background: {_things_said(s)}."] + _relations(s))


def short_caption(s):
    return sentence(_things_said(s, size=False))


def _seen(s):
    return f"I see {_things_said(s)} on a {s['background']} background."


def _shown(s):
    return f"The image shows {_things_said(s)} on a {s['background']} background."


def _lying(s):
    return " ".join(_relations(s)) or "There is one object."


# What is asked decides the wording of the answer: the words of one answer are guessed together, and two wordings that
# are equally right would be mixed.
LONG_PROMPTS = ["Please describe the image in detail.", "Describe this picture in detail."]
SHORT_PROMPTS = ["Describe the image briefly.", "Please describe the image in one short sentence.",
                 "Write a short caption."]
PROMPTS = {**dict.fromkeys(LONG_PROMPTS, long_caption), **dict.fromkeys(SHORT_PROMPTS, short_caption),
           "What do you see in the image?": _seen, "What can you see?": _seen,
           "Describe the image.": _shown, "Write a caption for this image.": _shown,
           "Where are the objects?": _lying, "How do the objects lie?": _lying}
PLACES = {"left of": "On the left.", "right of": "On the right.", "above": "Above.", "below": "Below."}


def question(s, rng):
    """-> (kind, question, answer)"""
    o = s["objects"]
    shapes, colours = [x["shape"] for x in o], [x["colour"] for x in o]
    one_shape = [x for x in o if x["shape"] in SHAPES and shapes.count(x["shape"]) == 1]
    one_colour = [x for x in o if colours.count(x["colour"]) == 1]
    pairs = [(x, y) for x in o for y in o if x is not y and clear(x, y, s["size"])]
    beside = [(x, y) for x, y in pairs if _only(s, x, y)]
    digits, words = ([x for x in o if x["shape"] in group] for group in (DIGITS, WORDS))
    kinds = ["count", "count_colour", "count_shape", "exists", "size", "background"]
    kinds += ["colour"] * 3 * bool(one_shape) + ["shape"] * 3 * bool(one_colour) + ["digit"] * 3 * (len(digits) == 1)
    kinds += ["where"] * 2 * bool(pairs) + ["beside"] * bool(beside) + ["end", "colours"] * (len(o) > 1)
    kinds += ["word"] * 3 * bool(words)
    k = rng.choice(kinds)
    if k == "count":
        return k, rng.choice(["How many objects are there?", "How many objects are in the image?",
                              "How many objects do you see?"]), _num(len(o))
    if k == "count_colour":
        c = rng.choice(colours if rng.random() < .7 else list(COLOURS))
        return k, rng.choice(["How many {} objects are there?", "How many objects are {}?"]).format(c), _num(colours.count(c))
    if k == "count_shape":
        c = rng.choice([x for x in shapes if x in SHAPES] or SHAPES) if rng.random() < .7 else rng.choice(SHAPES)
        return k, rng.choice(["How many {} are there?", "How many {} do you see?"]).format(plural(c)), _num(shapes.count(c))
    if k == "exists":
        x = dict(rng.choice(o))
        if rng.random() < .5:  # change one attribute: usually not there
            if rng.random() < .5:
                x["colour"] = rng.choice(list(COLOURS))
            else:
                x["shape"] = rng.choice(SHAPES)
        yes = any(name(x) == name(y) for y in o)
        return k, rng.choice(["Is there {}?", "Is there {} in the image?"]).format(a(name(x))), "Yes." if yes else "No."
    if k == "size":
        x = rng.choice(o)
        return k, f"Is the {name(x)} large or small?", sentence(x["size"])
    if k == "background":
        return k, rng.choice(["What colour is the background?", "What is the background colour?"]), sentence(s["background"])
    if k == "colour":
        x = rng.choice(one_shape)
        return k, rng.choice(["What colour is the {}?", "What is the colour of the {}?"]).format(x["shape"]), sentence(x["colour"])
    if k == "shape":
        x = rng.choice(one_colour)
        return k, rng.choice(["What shape is the {} object?", "What is the {} object?"]).format(x["colour"]), sentence(a(x["shape"]))
    if k == "where":
        x, y = rng.choice(pairs)
        return k, f"Where is the {name(x)} relative to the {name(y)}?", PLACES[relation(x, y)]
    if k == "beside":
        x, y = rng.choice(beside)
        return k, f"What is {relation(x, y)} the {name(y)}?", sentence(a(name(x, True)))
    if k == "end":
        end, x = rng.choice([("left", o[0]), ("right", o[-1])])
        return k, f"Which object is on the far {end}?", sentence(a(name(x, True)))
    if k == "colours":
        return k, "Which colours do the objects have, from left to right?", sentence(listing(colours))
    if k == "word":
        return k, rng.choice(["What does it say?", "Which word is shown?"]), sentence(printed(words[0]))
    return k, rng.choice(["Which digit is shown?", "What digit do you see?", "What is written in the image?"]), printed(digits[0]) + "."


def _only(s, x, y):
    """Whether x is the one object that lies so relative to y, and no other is a matter of opinion"""
    others = [z for z in s["objects"] if z is not x and z is not y]
    return all(clear(z, y, s["size"]) and relation(z, y) != relation(x, y) for z in others)


def plural(s):
    return "crosses" if s == "cross" else s + "s"


def _num(n):
    return sentence(NUMBERS[n])


def example(s, rng):
    """One training example -> (kind, user text, assistant text)."""
    u = rng.random()
    if u < .55:
        prompt = rng.choice(list(PROMPTS))
        return "caption", prompt, PROMPTS[prompt](s)
    return question(s, rng)
