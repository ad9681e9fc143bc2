#!/usr/bin/env python3
"""The README's picture: a few cells of a film that `decode --out FILE.png` wrote, large.

    docs/predicting.py future.png predicting.png [CLIP [SAMPLE.png [PROMPTED.png]]]

SAMPLE.png: what `sample --given_clip CLIP --given_frames 0:4 --frames 12 --scale 3` drew of the same
clip; PROMPTED.png: told its digit, too. Needs Pillow, and clips of 12 frames of which 4 are shown.
"""
import sys

from PIL import Image, ImageDraw, ImageFont

CELL, STEP, PIXELS = 128, 140, 32  # of decode's film: four screen pixels a pixel, with frames and gaps
ROWS = [  # row of the film, what a stranger calls it
    (0, "What happened"),
    (2, "What the JEPA\npredicts after\nseeing four frames"),
    (5, "Control: predictions\nof another clip"),
]
DRAWN = [
    "What pixel diffusion\ndraws after the\nsame four frames",
    "The same, told\nthat it is a seven",
]
COLUMNS = [(1, "frame 2"), (3, "frame 4"), (5, "2 ahead"), (7, "4 ahead"), (9, "6 ahead"), (11, "8 ahead")]
SHOWN = 2  # columns
SIDE, GAP, LEFT, TOP = 150, 8, 250, 56
BLUE, ORANGE, GREY = (31, 119, 180), (230, 126, 20), (150, 150, 150)


def font(bold):
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(name, 20)


def main():
    film = Image.open(sys.argv[1]).convert("RGB")
    first = 6 * int(sys.argv[3] if len(sys.argv) > 3 else 0)
    left = film.width - 12 * STEP  # of the first cell: names stand before it

    def cell(row, column):
        x, y = left + STEP * column + 3, 9 + STEP * (first + row)
        small = film.crop((x, y, x + CELL, y + CELL)).resize((PIXELS, PIXELS), Image.BOX)
        return small.resize((SIDE - 6, SIDE - 6), Image.NEAREST)

    def sampled(path, column):  # of sample's film: cells of 96, two pixels between them
        x = 98 * column
        small = Image.open(path).convert("RGB").crop((x, 0, x + 96, 96))
        return small.resize((PIXELS, PIXELS), Image.BOX).resize((SIDE - 6, SIDE - 6), Image.NEAREST)

    rows = [(name, lambda column, row=row: cell(row, column)) for row, name in ROWS]
    for i, (name, path) in enumerate(zip(DRAWN, sys.argv[4:])):
        rows.insert(2 + i, (name, lambda column, path=path: sampled(path, column)))

    def place(column):
        return LEFT + column * (SIDE + GAP) + (20 if column >= SHOWN else 0)

    size = (place(len(COLUMNS)), TOP + len(rows) * (SIDE + GAP) + 6)
    out = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(out)
    for first_column, last, text, colour in ((0, SHOWN - 1, "seen", BLUE),
                                             (SHOWN, len(COLUMNS) - 1, "the future, never seen", ORANGE)):
        middle = (place(first_column) + place(last) + SIDE) / 2
        draw.text((middle, 4), text, font=font(True), fill=colour, anchor="ma")
    for j, (_, name) in enumerate(COLUMNS):
        draw.text((place(j) + SIDE / 2, 30), name, font=font(False), fill=(60, 60, 60), anchor="ma")
    for i, (name, picture) in enumerate(rows):
        y = TOP + i * (SIDE + GAP)
        draw.multiline_text((8, y + SIDE / 2), name, font=font(i == 1), fill="black", anchor="lm", spacing=6)
        for j, (column, _) in enumerate(COLUMNS):
            colour = GREY if i == 0 else BLUE if j < SHOWN else ORANGE
            draw.rectangle((place(j), y, place(j) + SIDE - 1, y + SIDE - 1), fill=colour)
            out.paste(picture(column), (place(j) + 3, y + 3))
    out.save(sys.argv[2], optimize=True)


if __name__ == "__main__":
    main()
