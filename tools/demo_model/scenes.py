"""Synthetic scenes: what is drawn, what is true about it, and what can be said or asked about it.

A scene is a plain dict:
  {"size": [W, H], "background": "grey",
   "objects": [{"shape": "circle", "colour": "red", "size": "large", "x": .., "y": .., "r": ..}, ...]}   # left to right
Coordinates and the radius are in pixels.  "digit 7" is a legal shape: a printed digit.
Two objects of one scene never share both shape and colour, so "the red circle" is always one object.
"""
import io
import math
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SHAPES = ["circle", "square", "triangle", "star", "cross", "ring", "diamond"]
DIGITS = [f"digit {i}" for i in range(10)]
ALL_SHAPES = SHAPES + DIGITS
COLOURS = {"red": (215, 30, 35), "green": (35, 150, 55), "blue": (35, 70, 215), "yellow": (242, 218, 40),
           "orange": (243, 128, 22), "purple": (125, 45, 165), "pink": (243, 125, 188), "black": (25, 25, 28)}
BACKGROUNDS = {"white": (246, 246, 246), "grey": (168, 168, 168), "beige": (226, 206, 166),
               "mint": (184, 232, 204), "lilac": (212, 200, 240)}
SIZES = {"small": (0.105, 0.13), "large": (0.18, 0.225)}          # radius / shorter side
NUMBERS = ["zero", "one", "two", "three", "four"]
CANVASES = [(84, 84), (112, 84), (84, 112), (160, 120), (120, 160), (168, 168)]
CANVAS_WEIGHTS = [55, 15, 15, 5, 5, 5]


# ------------------------------------------------------------------ sampling
def sample_scene(rng, canvas=None, count=None):
    """Draw a random scene: objects apart from each other, left-to-right order and relations unambiguous."""
    w, h = canvas or rng.choices(CANVASES, CANVAS_WEIGHTS)[0]
    side = min(w, h)
    while True:
        n = count or rng.choices([1, 2, 3], [25, 40, 35])[0]
        objs, seen = [], set()
        while len(objs) < n:
            shape = rng.choice(DIGITS) if rng.random() < 0.15 else rng.choice(SHAPES)
            colour = rng.choice(list(COLOURS))
            if (shape, colour) in seen:
                continue
            seen.add((shape, colour))
            size = rng.choice(["small", "large"])
            lo, hi = SIZES[size]
            objs.append(dict(shape=shape, colour=colour, size=size, r=side * rng.uniform(lo, hi)))
        for _ in range(40):
            for o in objs:
                m = o["r"] * 1.05
                o["x"], o["y"] = rng.uniform(m, w - m), rng.uniform(m, h - m)
            if all(_apart(a, b, side) for i, a in enumerate(objs) for b in objs[:i]):
                objs.sort(key=lambda o: o["x"])
                for o in objs:
                    o.update(x=round(o["x"], 1), y=round(o["y"], 1), r=round(o["r"], 1))
                return dict(size=[w, h], background=rng.choice(list(BACKGROUNDS)), objects=objs)


def _apart(a, b, side):
    dx, dy = abs(a["x"] - b["x"]), abs(a["y"] - b["y"])
    return math.hypot(dx, dy) > a["r"] + b["r"] + 0.03 * side and dx > 0.08 * side and abs(dx - dy) > 0.08 * side


def relation(a, b):
    """How object a lies relative to b: left of, right of, above, below (the larger offset decides)."""
    dx, dy = b["x"] - a["x"], b["y"] - a["y"]
    if abs(dx) >= abs(dy):
        return "left of" if dx > 0 else "right of"
    return "above" if dy > 0 else "below"


# ------------------------------------------------------------------ drawing
_fonts = {}


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
    if o["shape"].startswith("digit"):
        px = max(4, int(r * 2.3))
        draw.text((cx, cy), o["shape"][-1], font=_font(px), fill=fill, anchor="mm",
                  stroke_width=max(0, round(r * 0.07)), stroke_fill=fill)
        return
    draw.polygon(_outline(o["shape"], cx, cy, r, angle), fill=fill)
    if o["shape"] == "ring":
        draw.polygon(_outline("circle", cx, cy, r * 0.55, 0), fill=hole)


TILT = {"square": .2, "diamond": .12, "triangle": .3, "star": .6, "cross": .2}


def render(scene, rng):
    """-> (RGB image, 'L' image holding object number + 1 per pixel)."""
    w, h = scene["size"]
    npr = np.random.default_rng(rng.getrandbits(32))
    ss = 3
    jit = lambda c, j: tuple(int(min(255, max(0, v + rng.uniform(-j, j)))) for v in c)
    back = jit(BACKGROUNDS[scene["background"]], 7)
    big = Image.new("RGB", (w * ss, h * ss), back)
    ids = Image.new("L", (w, h), 0)
    db, di = ImageDraw.Draw(big), ImageDraw.Draw(ids)
    for k, o in enumerate(scene["objects"]):
        ang = rng.uniform(-1, 1) * TILT.get(o["shape"], 0)
        _draw(db, o, ss, jit(COLOURS[o["colour"]], 14), back, ang)
        _draw(di, o, 1, k + 1, k + 1, ang)
    a = np.asarray(big.reduce(ss), dtype=np.float32)
    kind = rng.random()
    if kind < .5:                                               # soft light gradient
        g = np.linspace(-1, 1, w)[None] * rng.uniform(-10, 10) + np.linspace(-1, 1, h)[:, None] * rng.uniform(-10, 10)
        a = a + g[..., None].astype(np.float32)
    if kind > .3:                                               # sensor noise
        a = a + npr.standard_normal((h, w, 3), dtype=np.float32) * rng.uniform(0, 8)
    im = Image.fromarray(np.clip(a + .5, 0, 255).astype(np.uint8), "RGB")
    if rng.random() < .3:                                       # JPEG artefacts
        buf = io.BytesIO()
        im.save(buf, "JPEG", quality=rng.randint(60, 95))
        im = Image.open(io.BytesIO(buf.getvalue())).convert("RGB")
    return im, ids


# ------------------------------------------------------------------ language
def name(o, size=False):
    return (o["size"] + " " if size else "") + o["colour"] + " " + o["shape"]


def a(phrase):
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def listing(parts):
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def long_caption(s):
    o = s["objects"]
    things = listing([a(name(x, True)) for x in o])
    head = (f"There is one object on a {s['background']} background: " if len(o) == 1 else
            f"There are {NUMBERS[len(o)]} objects on a {s['background']} background: ")
    rel = [f" The {name(x)} is {relation(x, y)} the {name(y)}." for x, y in zip(o, o[1:])]
    return head + things + "." + "".join(rel)


def short_caption(s):
    t = listing([a(name(x)) for x in s["objects"]])
    return t[0].upper() + t[1:] + "."


LONG_PROMPTS = ["Please describe the image in detail.", "Describe the image.", "Describe this picture in detail.",
                "What do you see in the image?", "Write a caption for this image."]
SHORT_PROMPTS = ["Describe the image briefly.", "Please describe the image in one short sentence.", "Write a short caption."]
PLACES = {"left of": "On the left.", "right of": "On the right.", "above": "Above.", "below": "Below."}


def question(s, rng):
    """-> (kind, question, answer)"""
    o = s["objects"]
    shapes, colours = [x["shape"] for x in o], [x["colour"] for x in o]
    kinds = ["count", "count_colour", "count_shape", "exists", "size", "background"]
    one_shape = [x for x in o if shapes.count(x["shape"]) == 1 and not x["shape"].startswith("digit")]
    one_colour = [x for x in o if colours.count(x["colour"]) == 1]
    digit = [x for x in o if x["shape"].startswith("digit")]
    kinds += ["colour"] * 3 * bool(one_shape) + ["shape"] * 3 * bool(one_colour) + ["where", "where", "beside"] * (len(o) > 1)
    kinds += ["digit"] * 3 * (len(digit) == 1)
    k = rng.choice(kinds)
    if k == "count":
        return k, rng.choice(["How many objects are there?", "How many objects are in the image?"]), _num(len(o))
    if k == "count_colour":
        c = rng.choice(colours if rng.random() < .7 else list(COLOURS))
        return k, f"How many {c} objects are there?", _num(colours.count(c))
    if k == "count_shape":
        c = rng.choice([x for x in shapes if x in SHAPES] or SHAPES) if rng.random() < .7 else rng.choice(SHAPES)
        return k, f"How many {plural(c)} are there?", _num(shapes.count(c))
    if k == "exists":
        x = dict(rng.choice(o))
        if rng.random() < .5:                                   # change one attribute: usually not there
            if rng.random() < .5:
                x["colour"] = rng.choice(list(COLOURS))
            else:
                x["shape"] = rng.choice(SHAPES)
        yes = any(name(x) == name(y) for y in o)
        return k, f"Is there {a(name(x))}?", "Yes." if yes else "No."
    if k == "size":
        x = rng.choice(o)
        return k, f"Is the {name(x)} large or small?", x["size"].capitalize() + "."
    if k == "background":
        return k, rng.choice(["What colour is the background?", "What is the background colour?"]), s["background"].capitalize() + "."
    if k == "colour":
        x = rng.choice(one_shape)
        return k, rng.choice(["What colour is the {}?", "What is the colour of the {}?"]).format(x["shape"]), x["colour"].capitalize() + "."
    if k == "shape":
        x = rng.choice(one_colour)
        return k, rng.choice(["What shape is the {} object?", "What is the {} object?"]).format(x["colour"]), a(x["shape"]).capitalize() + "."
    if k == "where":
        x, y = rng.sample(o, 2)
        return k, f"Where is the {name(x)} relative to the {name(y)}?", PLACES[relation(x, y)]
    if k == "beside":
        x, y = rng.sample(o, 2)
        r = relation(x, y)
        if sum(relation(z, y) == r for z in o if z is not y) > 1:
            return question(s, rng)
        return k, f"What is {r} the {name(y)}?", a(name(x, True)).capitalize() + "."
    return k, rng.choice(["Which digit is shown?", "What digit do you see?", "What is written in the image?"]), digit[0]["shape"][-1] + "."


def plural(s):
    return "crosses" if s == "cross" else s + "s"


def _num(n):
    return NUMBERS[n].capitalize() + "."


def example(s, rng):
    """One training example -> (kind, user text, assistant text)."""
    u = rng.random()
    if u < .45:
        return "long", rng.choice(LONG_PROMPTS), long_caption(s)
    if u < .55:
        return "short", rng.choice(SHORT_PROMPTS), short_caption(s)
    return question(s, rng)
