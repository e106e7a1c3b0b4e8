// The points of a map: drawn by counting them in each pixel, and searched in a grid.

const EDGE = 65534; // largest coordinate of a point; a deleted passage has 65535
const CELLS = 128; // of the grid, in each direction
const SPARSE = 10_000; // maps with fewer points draw larger ones

export class Points {
  /** xy: Uint16Array of the x and y of each row, from 0 to EDGE. */
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

  /** Draw an image for a canvas. left, top, side: of the map, in pixels. close: whether it is zoomed in. ink: #rrggbb. */
  image(context, { left, top, side, close, ink }) {
    const { width, height } = context.canvas;
    const { xy } = this;
    const counts = new Uint8Array(width * height);
    const scale = side / EDGE;
    const reach = close || xy.length < 2 * SPARSE ? 1 : 0; // extra pixels to the left and above
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
    // denser pixels are more opaque; a single point stays visible
    const shades = Uint32Array.from({ length: 256 }, (_, count) => (count ? ((Math.min(255, 120 + 45 * Math.log2(count)) << 24) | colour) >>> 0 : 0));
    for (let pixel = 0; pixel < counts.length; pixel++) if (counts[pixel]) pixels[pixel] = shades[counts[pixel]];
    return image;
  }

  /** The row of the point nearest to (x, y), or -1 if none is within `reach`. All three are in [0, 1]. */
  nearest(x, y, reach) {
    const { xy, starts, rows } = this;
    const [px, py, radius] = [x * EDGE, y * EDGE, reach * EDGE];
    const cell = (value) => Math.max(0, Math.min(CELLS - 1, Math.floor((value * CELLS) / (EDGE + 2))));
    let best = -1;
    let bestDistance = radius * radius;
    for (let row = cell(py - radius); row <= cell(py + radius); row++) {
      for (let at = starts[row * CELLS + cell(px - radius)]; at < starts[row * CELLS + cell(px + radius) + 1]; at++) {
        const candidate = rows[at];
        const [dx, dy] = [xy[2 * candidate] - px, xy[2 * candidate + 1] - py];
        const distance = dx * dx + dy * dy;
        if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
      }
    }
    return best;
  }
}
