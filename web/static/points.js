// The points of a map: counted by pixel, which is quick for any number of them, and looked for in a grid.

const EDGE = 65534; // of a point's coordinates; one more is a passage that was deleted
const CELLS = 128;
const FEW = 10_000;

export class Points {
  /** xy: x and y of each row, from 0 to EDGE. */
  constructor(xy) {
    this.xy = xy;
    this.starts = new Uint32Array(CELLS * CELLS + 1);
    const cellOf = (at) => ((xy[at + 1] * CELLS) >> 16) * CELLS + ((xy[at] * CELLS) >> 16);
    for (let at = 0; at < xy.length; at += 2) if (xy[at] <= EDGE) this.starts[cellOf(at) + 1] += 1;
    for (let cell = 0; cell < CELLS * CELLS; cell++) this.starts[cell + 1] += this.starts[cell];
    this.rows = new Uint32Array(this.starts[CELLS * CELLS]);
    const next = this.starts.slice();
    for (let at = 0; at < xy.length; at += 2) if (xy[at] <= EDGE) this.rows[next[cellOf(at)]++] = at / 2;
  }

  /** A picture for a canvas: left and top are where the map begins, side how long it is, in pixels; ink a #rrggbb. */
  image(context, { left, top, side, close, ink }) {
    const { width, height } = context.canvas;
    const { xy } = this;
    const counts = new Uint8Array(width * height);
    const scale = side / EDGE;
    const reach = close || xy.length < 2 * FEW ? 1 : 0; // from close by, and where they are few, points are larger
    for (let at = 0; at < xy.length; at += 2) {
      if (xy[at] > EDGE) continue;
      const x = (xy[at] * scale + left) | 0;
      const y = (xy[at + 1] * scale + top) | 0;
      if (x < 1 || y < 1 || x >= width - 2 || y >= height - 2) continue;
      for (let row = y - reach; row <= y + 1; row++) {
        for (let column = x - reach; column <= x + 1; column++) {
          const pixel = row * width + column;
          if (counts[pixel] < 255) counts[pixel] += 1;
        }
      }
    }
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(ink.slice(at, at + 2), 16));
    const colour = (blue << 16) | (green << 8) | red;
    // more points are darker, and a single one is seen
    const shades = Uint32Array.from({ length: 256 }, (_, count) => (count ? ((Math.min(255, 120 + 45 * Math.log2(count)) << 24) | colour) >>> 0 : 0));
    for (let pixel = 0; pixel < counts.length; pixel++) if (counts[pixel]) pixels[pixel] = shades[counts[pixel]];
    return image;
  }

  /** The row of the point nearest to a place, or -1 where none is within `reach`; all from 0 to 1. */
  nearest(x, y, reach) {
    const { xy, starts, rows } = this;
    const [px, py, far] = [x * EDGE, y * EDGE, reach * EDGE];
    const cell = (value) => Math.max(0, Math.min(CELLS - 1, Math.floor((value * CELLS) / (EDGE + 2))));
    let best = -1;
    let least = far * far;
    for (let row = cell(py - far); row <= cell(py + far); row++) {
      for (let at = starts[row * CELLS + cell(px - far)]; at < starts[row * CELLS + cell(px + far) + 1]; at++) {
        const found = rows[at];
        const [dx, dy] = [xy[2 * found] - px, xy[2 * found + 1] - py];
        const distance = dx * dx + dy * dy;
        if (distance < least) [best, least] = [found, distance];
      }
    }
    return best;
  }
}
