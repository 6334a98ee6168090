// @ts-check
/**
 * The canvas of the viewers: tiles from the kernel in one world, with pan, zoom, hover and regions.
 *
 * Python owns the state and this draws it. The messages are described in canvas.py. The module is
 * self-contained: it imports nothing, and asks nobody but the kernel.
 */

/** @typedef {[number, number]} Point  x, y; of the world (y grows downwards) or of the screen */
/** @typedef {[number, number]} Size  width and height in CSS pixels */
/** @typedef {[number, number, number]} View  the world at the middle, and world units a CSS pixel */
/** @typedef {[number, number, number, number]} Box  x0, y0, x1, y1 */
/** @typedef {[number, number, number, number, number, number]} Matrix  as that of setTransform */
/** @typedef {[string, number]} Unit  a symbol, and the world units it is long */
/** @typedef {{kind: "rectangle" | "polygon", points: Point[]}} Roi */
/** @typedef {{ends: Uint32Array, ids: Uint32Array | BigUint64Array, width: number, height: number}} Runs */
/** @typedef {{matrix: Matrix, source: Box}} Placement */
/**
 * @typedef {object} Tile
 * @property {string} key
 * @property {string} layer
 * @property {string} state  all that changes pixels but not the viewport
 * @property {number} level  0 is the finest
 * @property {Matrix} matrix  from pixels of the picture to the world
 * @property {number} width
 * @property {number} height
 * @property {string} format  "jpeg", "png" or "error"
 * @property {string} [message]
 * @property {ImageBitmap | null} bitmap
 * @property {Runs | null} runs
 * @property {number} used  the paint that drew it last
 * @property {boolean} topmost  that paint called for its level
 */

const MOST_TILES = 256; // bitmaps that are kept beyond those on the screen
const MOST_PROPERTIES = 20_000;
const MOST_VALUES = 16; // intensities in the line below the canvas
const PATIENCE = 2000; // ms until a question is taken for lost
const BUSY_AFTER = 300; // ms without an answer
const GONE = "jupyter-widgets-disconnected"; // the class of widgets whose kernel is gone
const PUBLISH_AFTER = 120; // ms of rest before `view` goes to the kernel
const SAY_EVERY = 1000; // ms between two texts for screen readers
const CLICK = 4; // CSS pixels a pointer may move in a click
const GRIP = 9; // CSS pixels around a corner that take hold of it
const LARGEST_PIXEL = 64; // CSS pixels an image's pixel may take
const NUDGE = 0.15; // part of the canvas an arrow key pans

// ---------------------------------------------------------------- geometry

/** @type {(m: Matrix, n: Matrix) => Matrix}  first n, then m */
export function multiply([a, b, c, d, e, f], n) {
  return [
    a * n[0] + c * n[1],
    b * n[0] + d * n[1],
    a * n[2] + c * n[3],
    b * n[2] + d * n[3],
    a * n[4] + c * n[5] + e,
    b * n[4] + d * n[5] + f,
  ];
}

/** @type {(m: Matrix, p: Point) => Point} */
export function apply([a, b, c, d, e, f], [x, y]) {
  return [a * x + c * y + e, b * x + d * y + f];
}

/** @type {(m: Matrix) => Matrix | null}  null where there is no way back */
export function invert([a, b, c, d, e, f]) {
  const det = a * d - b * c;
  if (!Number.isFinite(1 / det)) return null;
  return [d / det, -b / det, -c / det, a / det, (c * f - d * e) / det, (b * e - a * f) / det];
}

/** @type {(view: View, size: Size, ratio?: number) => Matrix}  from the world to the screen */
export function screenMatrix([cx, cy, upp], [w, h], ratio = 1) {
  const k = ratio / upp;
  return [k, 0, 0, k, (w * ratio) / 2 - cx * k, (h * ratio) / 2 - cy * k];
}

/** @type {(view: View, size: Size, world: Point) => Point} */
export function toScreen([cx, cy, upp], [w, h], [x, y]) {
  return [(x - cx) / upp + w / 2, (y - cy) / upp + h / 2];
}

/** @type {(view: View, size: Size, screen: Point) => Point} */
export function toWorld([cx, cy, upp], [w, h], [x, y]) {
  return [cx + (x - w / 2) * upp, cy + (y - h / 2) * upp];
}

/** @type {(home: Box, size: Size) => View}  all of the world in the middle of the canvas */
export function homeView([x0, y0, x1, y1], [w, h]) {
  const upp = Math.max(Math.abs(x1 - x0) / w, Math.abs(y1 - y0) / h);
  return [(x0 + x1) / 2, (y0 + y1) / 2, Number.isFinite(upp) && upp > 0 ? upp : 1];
}

/** @type {(view: View, screen: Point) => View}  the world follows the hand */
export function panned([cx, cy, upp], [dx, dy]) {
  return [cx - dx * upp, cy - dy * upp, upp];
}

/** @type {(view: View, size: Size, about: Point, factor: number) => View}  > 1 comes closer */
export function zoomed(view, size, about, factor) {
  const [x, y] = toWorld(view, size, about);
  return [x + (view[0] - x) / factor, y + (view[1] - y) / factor, view[2] / factor];
}

/**
 * The view after two fingers moved: what lay under each stays under it.
 * @type {(view: View, size: Size, before: [Point, Point], after: [Point, Point]) => View}
 */
export function pinched(view, size, [a, b], [c, d]) {
  const factor = Math.hypot(c[0] - d[0], c[1] - d[1]) / (Math.hypot(a[0] - b[0], a[1] - b[1]) || 1);
  const from = /** @type {Point} */ ([(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]);
  const to = /** @type {Point} */ ([(c[0] + d[0]) / 2, (c[1] + d[1]) / 2]);
  const zoom = factor > 0 ? zoomed(view, size, from, factor) : view;
  return panned(zoom, [to[0] - from[0], to[1] - from[1]]);
}

/** @type {(delta: number, mode: number, pinch: boolean) => number}  the zoom of a wheel event */
export function wheelFactor(delta, mode, pinch) {
  const pixels = delta * (mode === 1 ? 33 : mode === 2 ? 400 : 1);
  return Math.exp(-Math.max(-240, Math.min(240, pixels)) * (pinch ? 0.01 : 0.002));
}

/**
 * A view in which something of the world is seen, neither from too far nor from too near.
 * @type {(view: View, home: Box, size: Size, finest: number) => View}
 */
export function clamped([cx, cy, upp], [x0, y0, x1, y1], size, finest) {
  const all = homeView([x0, y0, x1, y1], size)[2];
  const nearest = Math.min(all, finest > 0 ? finest / LARGEST_PIXEL : all / 1e6);
  const limit = (/** @type {number} */ v, /** @type {number} */ a, /** @type {number} */ b) =>
    Math.min(Math.max(v, Math.min(a, b)), Math.max(a, b));
  return [limit(cx, x0, x1), limit(cy, y0, y1), limit(upp, nearest, 4 * all)];
}

/** @type {(matrix: Matrix, width: number, height: number) => Box} */
export function boundsOf(matrix, width, height) {
  const corners = [[0, 0], [width, 0], [0, height], [width, height]].map((corner) =>
    apply(matrix, /** @type {Point} */ (corner)),
  );
  const xs = corners.map((corner) => corner[0]);
  const ys = corners.map((corner) => corner[1]);
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

/** @type {(a: Box, b: Box) => boolean} */
export function overlap(a, b) {
  return a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
}

/**
 * Where a picture goes on a canvas of w by h device pixels; null if outside.
 *
 * Upright pictures end at whole pixels, so that neighbours meet without a seam, and are cropped to
 * what is seen (a coarse tile may be wider than a renderer can count); others get half a pixel more
 * at every edge.
 * @type {(m: Matrix, width: number, height: number, w: number, h: number) => Placement | null}
 */
export function placed(m, width, height, w, h) {
  const box = boundsOf(m, width, height);
  if (!box.every(Number.isFinite) || !overlap(box, [0, 0, w, h])) return null;
  const tiny = 1e-9 * (Math.abs(m[0]) + Math.abs(m[1]) + Math.abs(m[2]) + Math.abs(m[3]));
  if (Math.abs(m[1]) <= tiny && Math.abs(m[2]) <= tiny) {
    const across = span(m[0], m[4], width, w);
    const down = span(m[3], m[5], height, h);
    if (!across || !down) return null;
    return {
      matrix: [across.scale, 0, 0, down.scale, across.start, down.start],
      source: [across.first, down.first, across.count, down.count],
    };
  }
  const source = /** @type {Box} */ ([0, 0, width, height]);
  const u = Math.hypot(m[0], m[1]) * width;
  const v = Math.hypot(m[2], m[3]) * height;
  if (Math.abs(m[0]) <= tiny && Math.abs(m[3]) <= tiny) {
    const start = [Math.round(m[4]), Math.round(m[5])];
    const end = [Math.round(m[4] + m[2] * height), Math.round(m[5] + m[1] * width)];
    if (start[0] === end[0] || start[1] === end[1]) return null;
    const turned = [0, (end[1] - start[1]) / width, (end[0] - start[0]) / height, 0];
    return { matrix: /** @type {Matrix} */ ([...turned, ...start]), source };
  }
  if (!(u > 0 && v > 0)) return null;
  const [more, deeper] = [1 + 1 / u, 1 + 1 / v];
  const grown = [m[0] * more, m[1] * more, m[2] * deeper, m[3] * deeper];
  const e = m[4] - (m[0] * width) / u / 2 - (m[2] * height) / v / 2;
  const f = m[5] - (m[1] * width) / u / 2 - (m[3] * height) / v / 2;
  return { matrix: /** @type {Matrix} */ ([...grown, e, f]), source };
}

/**
 * One axis of an upright picture: the pixels that are seen and where they go.
 * @type {(scale: number, start: number, count: number, seen: number) => {first: number, count: number, start: number, scale: number} | null}
 */
function span(scale, start, count, seen) {
  const ends = [-start / scale, (seen - start) / scale];
  const first = Math.max(0, Math.floor(Math.min(...ends)) - 1);
  const last = Math.min(count, Math.ceil(Math.max(...ends)) + 1);
  const at = (/** @type {number} */ i) => {
    const position = start + i * scale;
    return i === 0 || i === count ? Math.round(position) : position;
  };
  const [from, to] = [at(first), at(last)];
  if (last <= first || from === to) return null;
  return { first, count: last - first, start: from, scale: (to - from) / (last - first) };
}

// ---------------------------------------------------------------- tiles

/** @type {(tile: Tile) => number}  world units a pixel */
export function pixelSize(tile) {
  const [a, b, c, d] = tile.matrix;
  return Math.sqrt(Math.abs(a * d - b * c)) || Math.hypot(a, b) || Math.hypot(c, d);
}

/**
 * The level that a view calls for, of those at hand: the coarsest that leaves no screen pixel
 * without a pixel of its own, or else the finest.
 * @type {(tiles: Iterable<Tile>, pixel: number) => number}
 */
export function targetLevel(tiles, pixel) {
  let fitting = -1;
  let finest = Infinity;
  for (const tile of tiles) {
    if (pixelSize(tile) <= pixel * 1.05) fitting = Math.max(fitting, tile.level);
    finest = Math.min(finest, tile.level);
  }
  return fitting >= 0 ? fitting : finest === Infinity ? 0 : finest;
}

/**
 * Tiles of one layer and state from the lowest to the topmost: coarse, then finer than the view
 * calls for, then those it calls for.
 * @type {(tiles: Iterable<Tile>, target: number) => Tile[]}
 */
export function stacked(tiles, target) {
  const rank = (/** @type {Tile} */ { level }) =>
    level === target ? 2e6 : level > target ? -level : 1e6 + level;
  return [...tiles].sort((a, b) => rank(a) - rank(b));
}

/**
 * The tiles to give up so that `most` are left: what was drawn longest ago first, of those the
 * finest. Tiles of the present paint at the level it calls for stay whatever their number.
 * @type {(tiles: Iterable<Tile>, most: number, paint: number, isTarget: (tile: Tile) => boolean) => Tile[]}
 */
export function evicted(tiles, most, paint, isTarget) {
  const all = [...tiles];
  if (all.length <= most) return [];
  const free = all.filter((tile) => tile.used < paint || !isTarget(tile));
  free.sort((a, b) => a.used - b.used || a.level - b.level);
  return free.slice(0, all.length - most);
}

/**
 * Ends of runs, summed up, for a binary search.
 * @type {(lengths: Uint16Array) => Uint32Array}
 */
export function runEnds(lengths) {
  const ends = new Uint32Array(lengths.length);
  let sum = 0;
  for (let i = 0; i < lengths.length; i++) ends[i] = sum += lengths[i];
  return ends;
}

/**
 * The id at a pixel, as text; "" outside.
 * @type {(runs: Runs, index: number) => string}
 */
export function idAt(runs, index) {
  const { ends, ids } = runs;
  if (!(index >= 0) || ends.length === 0 || index >= ends[ends.length - 1]) return "";
  let low = 0;
  let high = ends.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ends[middle] > index) high = middle;
    else low = middle + 1;
  }
  return String(ids[low]);
}

/**
 * A pixel of a tile under a point of the world; null outside.
 * @type {(tile: {matrix: Matrix, width: number, height: number}, world: Point) => Point | null}
 */
export function pixelAt({ matrix, width, height }, world) {
  const back = invert(matrix);
  if (!back) return null;
  const [i, j] = apply(back, world);
  return i >= 0 && j >= 0 && i < width && j < height ? [i, j] : null;
}

/**
 * The label id in a tile under a point of the world, as text; "" where there is none.
 * @type {(tile: Tile, world: Point) => string}
 */
export function labelAt(tile, world) {
  const at = tile.runs && pixelAt(tile, world);
  if (!tile.runs || !at) return "";
  const { width, height } = tile.runs;
  const [i, j] = [(at[0] * width) / tile.width, (at[1] * height) / tile.height].map(Math.floor);
  return idAt(tile.runs, j * width + i);
}

// ---------------------------------------------------------------- text

/** @type {(length: number, units: Unit[]) => Unit}  the unit in which a length reads well */
export function unitFor(length, units) {
  const sorted = [...units].sort((a, b) => a[1] - b[1]);
  if (sorted.length === 0) return ["px", 1];
  return sorted.reduce((best, unit) => (length >= unit[1] * (1 - 1e-9) ? unit : best), sorted[0]);
}

/** @type {(most: number) => number}  the largest of 1, 2 or 5 times a power of ten, up to `most` */
export function roundLength(most) {
  const power = 10 ** Math.floor(Math.log10(most) + 1e-9);
  const digit = [5, 2, 1].find((candidate) => candidate * power <= most * (1 + 1e-9)) ?? 1;
  return Number((digit * power).toPrecision(1));
}

/**
 * A bar of a round length no longer than `most` CSS pixels.
 * @type {(upp: number, units: Unit[], most: number) => {text: string, pixels: number}}
 */
export function scaleBar(upp, units, most) {
  const [symbol, length] = unitFor(upp * most, units);
  const value = roundLength((upp * most) / length);
  return { text: `${value} ${symbol}`, pixels: (value * length) / upp };
}

/**
 * A position to the pixel, in the unit of the world.
 * @type {(world: Point, upp: number, units: Unit[], axes: string[]) => string}
 */
export function positionText(world, upp, units, axes) {
  const [symbol, length] = units.find((unit) => unit[1] === 1) ?? unitFor(upp * 100, units);
  const digits = Math.max(0, Math.min(9, Math.ceil(-Math.log10(upp / length) - 1e-9)));
  return world
    .map((value, axis) => {
      const text = (value / length).toFixed(digits);
      return `${axes[axis] ?? ""} ${Number(text) === 0 ? text.replace("-", "") : text} ${symbol}`.trim();
    })
    .join(", ");
}

// ---------------------------------------------------------------- regions and selections

/** @type {(roi: Roi) => Point[]}  the corners; those of a rectangle clockwise from its first */
export function cornersOf({ kind, points }) {
  if (kind !== "rectangle") return points;
  const [x0, y0, x1, y1] = boxOf(points);
  return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
}

/** @type {(points: Point[]) => Box} */
export function boxOf(points) {
  const xs = points.map((point) => point[0]);
  const ys = points.map((point) => point[1]);
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

/** @type {(a: Point, b: Point) => Roi} */
export function rectangle(a, b) {
  const [x0, y0, x1, y1] = boxOf([a, b]);
  return { kind: "rectangle", points: [[x0, y0], [x1, y1]] };
}

/** @type {(roi: Roi, index: number, to: Point) => Roi}  one corner elsewhere */
export function withCorner(roi, index, to) {
  if (roi.kind === "rectangle") return rectangle(cornersOf(roi)[(index + 2) % 4], to);
  return { ...roi, points: roi.points.map((point, i) => (i === index ? to : point)) };
}

/** @type {(roi: Roi, by: Point) => Roi} */
export function movedRoi(roi, [dx, dy]) {
  return { ...roi, points: roi.points.map(([x, y]) => [x + dx, y + dy]) };
}

/** @type {(points: Point[], at: Point, reach: number) => number}  the nearest, or -1 */
export function nearest(points, at, reach) {
  let best = -1;
  let shortest = reach;
  points.forEach(([x, y], index) => {
    const distance = Math.hypot(x - at[0], y - at[1]);
    if (distance <= shortest) [best, shortest] = [index, distance];
  });
  return best;
}

/** @type {(points: Point[], at: Point) => boolean}  by the even-odd rule */
export function inside(points, [x, y]) {
  let result = false;
  for (let i = 0, j = points.length - 1; i < points.length; j = i++) {
    const [[x0, y0], [x1, y1]] = [points[i], points[j]];
    if (y0 > y !== y1 > y && x < x0 + ((x1 - x0) * (y - y0)) / (y1 - y0)) result = !result;
  }
  return result;
}

/** @type {(value: unknown) => Roi | null}  a region that can be drawn */
export function validRoi(value) {
  const roi = /** @type {any} */ (value);
  if (roi?.kind !== "rectangle" && roi?.kind !== "polygon") return null;
  const fine = Array.isArray(roi.points) && roi.points.length >= 2;
  return fine && roi.points.flat().every(Number.isFinite) ? roi : null;
}

/**
 * The ids selected after a click on one ("" is the background).
 * @type {(selection: string[], id: string, more: boolean) => string[]}
 */
export function toggled(selection, id, more) {
  if (!id) return more ? selection : [];
  if (more) return selection.includes(id) ? selection.filter((each) => each !== id) : [...selection, id];
  return selection.length === 1 && selection[0] === id ? [] : [id];
}

// ---------------------------------------------------------------- questions

/**
 * One question in flight and the newest waiting. The question is made when it is sent; one that is
 * not answered within `patience` ms is taken for lost.
 */
export class LatestWins {
  /** @param {() => void} send  @param {number} [patience]  @param {() => void} [lost] */
  constructor(send, patience = PATIENCE, lost = () => {}) {
    this.send = send;
    this.patience = patience;
    this.lost = lost;
    this.busy = false;
    this.waiting = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  ask() {
    if (this.busy) {
      this.waiting = true;
      return;
    }
    this.busy = true;
    this.waiting = false;
    this.timer = setTimeout(() => {
      this.settle();
      this.lost();
    }, this.patience);
    this.send();
  }

  /** The answer has come. */
  settle() {
    this.stop();
    if (this.waiting) this.ask();
  }

  stop() {
    clearTimeout(this.timer);
    this.busy = false;
  }
}

// ---------------------------------------------------------------- what all views of a model share

/** @type {(buffer: DataView | undefined) => Promise<ArrayBuffer>}  what was deflated */
function inflated(buffer) {
  if (!buffer) return Promise.resolve(new ArrayBuffer(0));
  const bytes = new Blob([/** @type {BlobPart} */ (buffer)]).stream();
  return new Response(bytes.pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
}

/** @type {(entry: any, state: string, buffer: DataView | undefined) => Promise<Tile>} */
async function decoded(entry, state, buffer) {
  /** @type {Tile} */
  const tile = { ...entry, state, bitmap: null, runs: null, used: 0, topmost: false };
  if (tile.format === "error") return tile;
  try {
    const parts = buffer ? [/** @type {BlobPart} */ (buffer)] : [];
    tile.bitmap = await createImageBitmap(new Blob(parts, { type: `image/${tile.format}` }));
    return tile;
  } catch {
    return { ...tile, format: "error", message: "this tile could not be decoded" };
  }
}

/** Tiles, questions and answers of one model; every view of it is a Pane. */
class Scene {
  /** @param {any} model */
  constructor(model) {
    this.model = model;
    /** @type {Set<Pane>} */
    this.panes = new Set();
    /** @type {Map<string, Tile>} by state and key */
    this.tiles = new Map();
    /** @type {string[]} states from the oldest to the newest */
    this.states = [];
    /** @type {string[]} */
    this.order = [];
    this.frame = -1;
    /** @type {Map<string, number>} the level the kernel chose, by layer */
    this.levels = new Map();
    this.levelsAt = 0; // the upp it chose them for
    this.askedAt = 0;
    this.paintings = 0;
    this.finest = 0;
    this.note = "";
    this.hint = "";
    /** @type {Map<string, string>} */
    this.properties = new Map();
    /** @type {View | null} */
    this.view = validView(model.get("view"));
    /** @type {Promise<void>} */
    this.chain = Promise.resolve();
    this.wants = new LatestWins(() => this.sendWant(), PATIENCE, () => this.lost());
    this.probes = new LatestWins(() => this.sendProbe());
    /** @type {{at: Point, pane: Pane} | null} */
    this.probing = null;
    this.heard = false;
    this.gone = false; // the kernel that knew the model
    this.loading = false; // the newest frame is not complete
    /** @type {number[]} by the order of layers; 1 if not said */
    this.opacity = [];
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.busyTimer = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.publishTimer = undefined;
    /** @type {{at: Point, pane: Pane} | undefined} */
    this.nextProbe = undefined;

    const receive = (/** @type {any} */ message, /** @type {DataView[]} */ buffers) =>
      this.receive(message, buffers);
    const viewed = () => this.viewed();
    const linked = () => setTimeout(() => this.linked());
    model.on("msg:custom", receive);
    model.on("change:view", viewed);
    model.on("comm_live_update", linked);
    this.close = () => {
      model.off("msg:custom", receive);
      model.off("change:view", viewed);
      model.off("comm_live_update", linked);
      this.wants.stop();
      this.probes.stop();
      clearTimeout(this.busyTimer);
      clearTimeout(this.publishTimer);
      for (const tile of this.tiles.values()) tile.bitmap?.close();
      this.tiles.clear();
    };
  }

  /** @param {object} message */
  send(message) {
    if (this.gone) return;
    try {
      this.model.send(message);
    } catch {
      this.setGone(true);
    }
  }

  /** @param {string} trait  @param {unknown} value */
  publish(trait, value) {
    this.model.set(trait, value);
    if (this.gone) return;
    try {
      this.model.save_changes();
    } catch {
      this.setGone(true);
    }
  }

  /** The model lost its kernel, or has it again: ipywidgets tell that to the views only. */
  linked() {
    this.setGone([...this.panes].some((pane) => pane.root.closest(`.${GONE}`)));
  }

  /** @param {boolean} gone */
  setGone(gone) {
    if (gone === this.gone) return;
    this.gone = gone;
    this.watch();
    if (!gone) this.ask();
  }

  /** @param {any} message  @param {DataView[]} buffers */
  receive(message, buffers) {
    this.heard = true;
    this.watch();
    if (message?.type === "frame" || message?.type === "ids") {
      // in turn: decoding takes its time, and ids belong to tiles
      const take = message.type === "frame" ? this.takeFrame : this.takeIds;
      this.chain = this.chain
        .then(() => take.call(this, message, buffers ?? []))
        .catch((error) => console.error(error));
    } else if (message?.type === "probe") {
      const asked = this.probing;
      // a late answer to a question that was given up is none to the next one
      if (asked?.at[0] !== message.x || asked?.at[1] !== message.y) return;
      this.probing = null;
      asked?.pane.probed(message);
      this.probes.settle();
    } else if (message?.type === "note") {
      this.note = String(message.text ?? "");
      for (const pane of this.panes) pane.noted();
    }
  }

  /** @param {any} message  @param {DataView[]} buffers */
  async takeFrame(message, buffers) {
    const { frame, state, complete, order, opacity, tiles = [], levels } = message;
    const news = await Promise.all(
      tiles.map((/** @type {any} */ entry, /** @type {number} */ i) => decoded(entry, state, buffers[i])),
    );
    if (frame < this.frame) {
      for (const tile of news) tile.bitmap?.close();
      return;
    }
    if (this.levelsAt !== this.askedAt) this.levels.clear();
    this.frame = frame;
    this.levelsAt = this.askedAt;
    const isNew = state !== this.states[this.states.length - 1];
    this.states = [...this.states.filter((each) => each !== state), state];
    if (Array.isArray(order)) this.order = order.map(String);
    this.opacity = Array.isArray(opacity) ? opacity.map(Number) : [];
    this.loading = !complete;
    for (const tile of news) this.add(tile);
    for (const [layer, level] of Object.entries(levels ?? {})) this.levels.set(layer, Number(level));
    if (complete) this.dropOld();
    // at once: what waits for the next animation frame is seen in the one after that
    for (const pane of this.panes) pane.paint();
    this.shown(frame);
    if (isNew) for (const pane of this.panes) pane.outdated();
  }

  /** @param {Tile} tile */
  add(tile) {
    const id = `${tile.state}\n${tile.key}`;
    this.tiles.get(id)?.bitmap?.close();
    this.tiles.set(id, tile);
    const level = this.levels.get(tile.layer) ?? Infinity;
    this.levels.set(tile.layer, Math.min(level, tile.level));
    const pixel = pixelSize(tile);
    if (pixel > 0) this.finest = this.finest > 0 ? Math.min(this.finest, pixel) : pixel;
  }

  dropOld() {
    const newest = this.states[this.states.length - 1];
    this.states = [newest];
    for (const [id, tile] of this.tiles) if (tile.state !== newest) this.drop(id, tile);
  }

  /** @param {string} id  @param {Tile} tile */
  drop(id, tile) {
    tile.bitmap?.close();
    this.tiles.delete(id);
  }

  /** @param {any} message  @param {DataView[]} buffers */
  async takeIds(message, buffers) {
    const { state, tiles = [], properties = {} } = message;
    const bytes = await Promise.all(buffers.map(inflated));
    tiles.forEach((/** @type {any} */ entry, /** @type {number} */ i) => {
      const tile = this.tiles.get(`${state}\n${entry.key}`);
      if (!tile) return; // evicted since
      // typed arrays are of the machine's byte order, little-endian wherever browsers run
      const ends = runEnds(new Uint16Array(bytes[2 * i] ?? new ArrayBuffer(0)));
      const ids = bytes[2 * i + 1] ?? new ArrayBuffer(0);
      tile.runs = {
        ends,
        ids: entry.wide ? new BigUint64Array(ids) : new Uint32Array(ids),
        width: entry.width,
        height: entry.height,
      };
    });
    for (const [id, text] of Object.entries(properties)) {
      this.properties.delete(id);
      this.properties.set(id, String(text));
    }
    for (const id of this.properties.keys()) {
      if (this.properties.size <= MOST_PROPERTIES) break;
      this.properties.delete(id);
    }
    for (const pane of this.panes) pane.read();
  }

  /** @param {number} frame */
  shown(frame) {
    this.send({ type: "shown", frame });
    this.evict();
    this.wants.settle(); // a part of a frame is an answer, too: the kernel may turn to a newer view
    this.watch();
  }

  /** The level of a layer that a screen pixel of so many world units calls for. @type {(layer: string, tiles: Tile[], upp: number, ratio: number) => number} */
  target(layer, tiles, upp, ratio) {
    const chosen = upp === this.levelsAt ? this.levels.get(layer) : undefined;
    return chosen ?? targetLevel(tiles, upp / ratio);
  }

  evict() {
    const seen = [...this.panes].filter((pane) => pane.visible());
    const paint = Math.min(...seen.map((pane) => pane.painted));
    for (const tile of evicted(this.tiles.values(), MOST_TILES, paint, (tile) => tile.topmost)) {
      this.drop(`${tile.state}\n${tile.key}`, tile);
    }
  }

  /** Ask the kernel for what the panes show, unless it has been asked already. */
  ask() {
    if (this.panes.size > 0) this.wants.ask();
  }

  sendWant() {
    const seen = [...this.panes].filter((pane) => pane.visible());
    if (seen.length === 0) {
      this.wants.stop();
      return;
    }
    // one question for all panes: the finest resolution of any, and a size that covers each
    const views = seen.map((pane) => pane.view());
    const upp = Math.min(...views.map((view) => view[2]));
    const cover = (/** @type {0 | 1} */ axis) =>
      Math.max(...seen.map((pane, i) => (pane.size[axis] * views[i][2]) / upp));
    const newest = this.states[this.states.length - 1];
    const have = [...this.tiles.values()].filter((tile) => tile.state === newest);
    this.askedAt = upp;
    this.heard = false;
    this.watch();
    this.send({
      type: "want",
      view: [views[0][0], views[0][1], upp],
      size: [cover(0), cover(1)],
      ratio: Math.max(...seen.map((pane) => pane.ratio)),
      have: have.filter((tile) => tile.format !== "error").map((tile) => tile.key),
      near: isNear(globalThis.location?.hostname ?? ""),
      told: this.model.get("told"),
    });
  }

  /** Say so if nothing comes for a while. */
  watch() {
    clearTimeout(this.busyTimer);
    if (this.gone) {
      this.setHint("The kernel is gone: run the cell again");
      return;
    }
    if (!this.wants.busy && !this.loading) {
      this.setHint("");
      return;
    }
    this.busyTimer = setTimeout(() => {
      this.setHint(this.wants.busy && !this.heard ? "Kernel busy…" : "Loading…");
    }, BUSY_AFTER);
  }

  /** A question was not answered, though the kernel said something: it will not be. */
  lost() {
    if (this.heard) this.setHint("");
  }

  /** @param {string} hint */
  setHint(hint) {
    if (hint === this.hint) return;
    this.hint = hint;
    for (const pane of this.panes) pane.noted();
  }

  /** @param {Point} at  @param {Pane} pane */
  probe(at, pane) {
    this.nextProbe = { at, pane };
    this.probes.ask();
  }

  sendProbe() {
    this.probing = this.nextProbe ?? null;
    if (!this.probing) return;
    const [x, y] = this.probing.at;
    this.send({ type: "probe", x, y });
  }

  /** The kernel has set `view`. */
  viewed() {
    const view = validView(this.model.get("view"));
    if (String(view) === String(this.view)) return;
    this.view = view;
    clearTimeout(this.publishTimer);
    this.moved();
  }

  /** The hand has moved the view. @param {View | null} view */
  look(view) {
    if (String(view) === String(this.view)) return;
    this.view = view;
    clearTimeout(this.publishTimer);
    this.publishTimer = setTimeout(() => this.publish("view", this.view), PUBLISH_AFTER);
    this.moved();
  }

  moved() {
    for (const pane of this.panes) pane.schedule();
    this.ask();
  }

  /** A pane came, went or has another size. */
  resized() {
    const seen = [...this.panes].filter((pane) => pane.visible());
    const size = [0, 1].map((axis) => Math.round(Math.max(0, ...seen.map((pane) => pane.size[axis]))));
    if (String(size) !== String(this.model.get("size"))) this.publish("size", size);
    if (seen.length > 0) this.ask();
  }

  /** @param {Pane} pane */
  left(pane) {
    this.panes.delete(pane);
    this.resized();
    if (this.panes.size > 0) return;
    // a cell that is run again leaves its model behind: not its pictures, too
    for (const [id, tile] of this.tiles) this.drop(id, tile);
    this.states = [];
  }
}

/** @type {(hostname: string) => boolean}  of the page: it comes from this machine */
export function isNear(hostname) {
  return hostname === "localhost" || hostname === "[::1]" || /^127(\.\d+){3}$/.test(hostname);
}

/** @type {(value: unknown) => View | null} */
export function validView(value) {
  const fine = Array.isArray(value) && value.length === 3 && value.every(Number.isFinite);
  return fine && value[2] > 0 ? /** @type {View} */ ([value[0], value[1], value[2]]) : null;
}

// ---------------------------------------------------------------- one view of a model

/** @type {(tag: string, name: string, attributes?: Record<string, string>) => HTMLElement} */
function element(tag, name, attributes = {}) {
  const made = document.createElement(tag);
  made.className = `ngff-${name}`;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** @type {Record<string, string>} what the hand does, by tool */
const HELP = {
  pan: "Drag: move · wheel: zoom · double click: closer · keys: arrows + - 0 f",
  rectangle: "Drag: draw a rectangle, its corners or all of it · Delete: remove · wheel: zoom",
  polygon: "Click: add a corner · double click or Enter: close · Escape: give up · Delete: remove",
  select: "Click: select a label · with Shift: more of them · drag: move · wheel: zoom",
};

const WHOLE = "ngff-whole"; // the class of what becomes a full screen with the canvas

/** The height that an element's parts need, whatever its own is. @type {(whole: Element) => number} */
function heightOf(whole) {
  const ends = [...whole.children].map(
    (child) => child.getBoundingClientRect().bottom + parseFloat(getComputedStyle(child).marginBottom),
  );
  const top = whole.getBoundingClientRect().top - whole.scrollTop;
  return Math.ceil(Math.max(...ends) - top + parseFloat(getComputedStyle(whole).paddingBottom));
}

const CONTROL_KEYS = /^(Arrow(Left|Right|Up|Down)|Home|End|Page(Up|Down)|Enter| )$/;

/**
 * Let a control beside the canvas have its keys: arrows are to move a slider, not to another cell.
 * @param {KeyboardEvent} event
 */
function leaveToControl(event) {
  const plain = !(event.ctrlKey || event.metaKey || event.altKey || event.shiftKey);
  const target = /** @type {Element} */ (event.target);
  // what JupyterLab and Notebook ask the focused element before they take a key for a command
  target.toggleAttribute("data-lm-suppress-shortcuts", plain && CONTROL_KEYS.test(event.key));
}

const SVG = "http://www.w3.org/2000/svg"; // a name, never asked for
const ICONS = {
  closer: "M8 3v10M3 8h10",
  farther: "M3 8h10",
  home: "M2 8l6-5.5L14 8M4 7v6.5h3V10h2v3.5h3V7",
  full: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
};

/** @typedef {{kind: "pan" | "pinch" | "new" | "corner" | "move" | "point", start: Point, last: Point, index: number, roi: Roi | null, far: boolean}} Gesture */

/** One view: an element of the page, its pointers and its keys. */
class Pane {
  /** @param {Scene} scene  @param {HTMLElement} el */
  constructor(scene, el) {
    this.scene = scene;
    this.model = scene.model;
    /** @type {Size} */
    this.size = [0, 0];
    this.ratio = 1;
    this.painted = 0;
    this.scheduled = 0;
    /** @type {Map<number, Point>} */
    this.pointers = new Map();
    /** @type {Gesture | null} */
    this.gesture = null;
    /** @type {Roi | null} a region being drawn or changed */
    this.draft = null;
    /** @type {Point | null} the first corner of a rectangle drawn by keys */
    this.anchor = null;
    this.tool = "pan";
    /** @type {Roi | null} */
    this.roi = null;
    /** @type {Unit[]} */
    this.units = [];
    /** @type {string[]} */
    this.axes = [];
    /** @type {Point | null} the pointer, on the screen */
    this.pointer = null;
    this.byKeys = false;
    /** @type {{at: Point, position: string, rest: string, values: [string, string][]} | null} */
    this.answer = null;
    this.said = "";
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.sayTimer = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.staleTimer = undefined;
    /** @type {(() => void)[]} */
    this.undo = [];
    this.root = element("div", "viewer");
    this.stage = element("div", "stage");
    const tiles = element("canvas", "tiles", { tabindex: "0", role: "application" });
    this.canvas = /** @type {HTMLCanvasElement} */ (tiles);
    const marks = element("canvas", "marks", { "aria-hidden": "true" });
    this.marks = /** @type {HTMLCanvasElement} */ (marks);
    this.scratch = document.createElement("canvas");
    this.buttons = element("div", "buttons");
    this.addButton(ICONS.closer, "Zoom in (+)", () => this.zoomBy(1.5));
    this.addButton(ICONS.farther, "Zoom out (-)", () => this.zoomBy(1 / 1.5));
    this.addButton(ICONS.home, "Show everything (0)", () => this.goHome());
    if (document.fullscreenEnabled) {
      this.addButton(ICONS.full, "Full screen (f)", () => this.toggleFullScreen());
    }
    this.scale = element("div", "scale");
    this.scaleText = element("span", "scale-text");
    this.scaleBar = element("div", "scale-bar");
    this.scale.append(this.scaleText, this.scaleBar);
    this.hint = element("div", "hint", { "aria-hidden": "true" });
    this.stage.append(tiles, marks, this.scale, this.hint, this.buttons);
    this.line = element("div", "line");
    this.position = element("span", "position");
    this.label = element("span", "label");
    this.values = element("span", "values");
    this.line.append(this.position, this.values, this.label);
    this.note = element("div", "note", { role: "status" });
    this.live = element("div", "live", { "aria-live": "polite" });
    this.root.append(this.stage, this.line, this.note, this.live);
    el.classList.add("ngff-host");
    el.append(this.root);
    this.listen();
    this.configure();
    this.noted();
    scene.panes.add(this);
    this.resize();
  }

  /** @param {string} path  @param {string} title  @param {() => void} act */
  addButton(path, title, act) {
    const button = element("button", "button", { type: "button", title, "aria-label": title });
    const icon = document.createElementNS(SVG, "svg");
    icon.setAttribute("viewBox", "0 0 16 16");
    icon.setAttribute("aria-hidden", "true");
    const shape = document.createElementNS(SVG, "path");
    shape.setAttribute("d", path);
    icon.append(shape);
    button.append(icon);
    button.addEventListener("click", act);
    this.buttons.append(button);
  }

  /** @param {EventTarget} target  @param {string} name  @param {(event: any) => void} act */
  on(target, name, act) {
    target.addEventListener(name, act, { passive: false });
    this.undo.push(() => target.removeEventListener(name, act));
  }

  listen() {
    const { canvas, root } = this;
    this.on(canvas, "pointerdown", (event) => this.down(event));
    this.on(canvas, "pointermove", (event) => this.move(event));
    this.on(canvas, "pointerup", (event) => this.up(event));
    this.on(canvas, "pointercancel", (event) => this.up(event));
    this.on(canvas, "pointerleave", () => this.leave());
    this.on(canvas, "wheel", (event) => this.wheel(event));
    this.on(canvas, "dblclick", (event) => this.doubleClick(event));
    this.on(canvas, "blur", () => {
      delete this.root.dataset.pointing;
      this.leave();
    });
    // Notebook 7 takes keys on their way down from the document: we must be before it
    const key = (/** @type {KeyboardEvent} */ event) => {
      const path = event.composedPath();
      const whole = root.closest(`.${WHOLE}`);
      if (path.includes(root)) this.key(event);
      else if (whole && path.includes(whole)) leaveToControl(event);
    };
    window.addEventListener("keydown", key, { capture: true });
    this.undo.push(() => window.removeEventListener("keydown", key, { capture: true }));
    this.on(document, "fullscreenchange", () => this.setHeight());
    this.on(window, "resize", () => document.fullscreenElement && this.setHeight());
    this.on(document, "visibilitychange", () => document.hidden || this.scene.ask());
    const configure = () => this.configure();
    const traits = ["home", "units", "tool", "roi", "crosshair", "height", "label", "smooth"];
    for (const trait of traits) this.model.on(`change:${trait}`, configure);
    this.undo.push(() => traits.forEach((trait) => this.model.off(`change:${trait}`, configure)));
    const observer = new ResizeObserver(() => this.resize());
    observer.observe(/** @type {HTMLElement} */ (this.stage));
    this.undo.push(() => observer.disconnect());
  }

  close() {
    for (const undo of this.undo) undo();
    clearTimeout(this.sayTimer);
    clearTimeout(this.staleTimer);
    cancelAnimationFrame(this.scheduled);
    this.scene.left(this);
    this.root.remove();
  }

  // -------------------------------------------------------------- state

  /** Take over what Python owns. */
  configure() {
    const { model, canvas, root } = this;
    this.units = model.get("units") ?? [];
    this.axes = model.get("axes") ?? ["x", "y"];
    const tool = this.tool;
    this.tool = String(model.get("tool"));
    this.roi = validRoi(model.get("roi"));
    this.setHeight();
    canvas.setAttribute("aria-label", String(model.get("label")));
    canvas.setAttribute("aria-description", HELP[this.tool] ?? "");
    root.dataset.tool = this.tool;
    if (this.tool !== tool) this.abandon();
    this.read();
    this.schedule();
  }

  home() {
    const home = this.model.get("home");
    return /** @type {Box} */ (Array.isArray(home) && home.length === 4 ? home : [0, 0, 1, 1]);
  }

  /** @returns {View} */
  view() {
    return this.scene.view ?? homeView(this.home(), this.size);
  }

  visible() {
    return this.size[0] > 0 && this.size[1] > 0;
  }

  resize() {
    const box = this.stage.getBoundingClientRect();
    const size = /** @type {Size} */ ([this.stage.clientWidth, this.stage.clientHeight]);
    if (box.width === 0 || size[0] === 0 || size[1] === 0) {
      this.size = [0, 0];
      this.scene.resized();
      return;
    }
    const ratio = window.devicePixelRatio || 1;
    if (size[0] === this.size[0] && size[1] === this.size[1] && ratio === this.ratio) return;
    this.size = size;
    this.ratio = ratio;
    for (const canvas of [this.canvas, this.marks, this.scratch]) {
      canvas.width = Math.round(size[0] * ratio);
      canvas.height = Math.round(size[1] * ratio);
    }
    this.paint(); // at once: a canvas of another size is blank
    this.read(); // what a canvas that is not laid out cannot say
    this.scene.resized();
  }

  /** @param {View} view */
  look(view) {
    this.scene.look(clamped(view, this.home(), this.size, this.scene.finest));
  }

  /** @param {number} factor  @param {Point} [about] */
  zoomBy(factor, about = [this.size[0] / 2, this.size[1] / 2]) {
    // clamp the zoom first: at its end the view must not wander
    const view = this.view();
    const upp = clamped([view[0], view[1], view[2] / factor], this.home(), this.size, this.scene.finest)[2];
    this.look(zoomed(view, this.size, about, view[2] / upp));
  }

  goHome() {
    this.scene.look(null);
  }

  toggleFullScreen() {
    // controls around the canvas come along, if there are any
    const whole = this.root.closest(`.${WHOLE}`) ?? this.root;
    if (document.fullscreenElement === whole) document.exitFullscreen();
    else whole.requestFullscreen?.().catch(() => {});
  }

  /** As high as Python says, or what the other parts leave of a full screen. */
  setHeight() {
    const height = Number(this.model.get("height"));
    const whole = document.fullscreenElement;
    this.stage.style.height = `${height}px`;
    if (!whole?.contains(this.root)) return;
    const spare = window.innerHeight - heightOf(whole);
    this.stage.style.height = `${Math.max(height / 2, height + spare)}px`;
  }

  /** @param {Roi | null} roi */
  setRoi(roi) {
    this.draft = null;
    this.anchor = null;
    this.roi = roi;
    this.scene.publish("roi", roi);
    this.schedule();
  }

  /** @param {Point} at  @param {boolean} more */
  select(at, more) {
    const { id } = this.under(toWorld(this.view(), this.size, at));
    const selection = /** @type {string[]} */ (this.model.get("selection") ?? []);
    const next = toggled(selection, id, more);
    if (String(next) === String(selection)) return;
    this.scene.publish("selection", next);
  }

  // -------------------------------------------------------------- pointers, wheel, keys

  /** @type {(event: MouseEvent) => Point} */
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  /** @param {PointerEvent} event */
  down(event) {
    if (event.button !== 0 && event.button !== 1) return;
    event.preventDefault();
    this.root.dataset.pointing = ""; // no ring for those who see where they point
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    const start = this.at(event);
    this.pointers.set(event.pointerId, start);
    this.pointer = start;
    this.byKeys = false;
    if (this.pointers.size === 2) {
      if (this.draft && this.tool !== "polygon") this.draft = null;
      this.begin("pinch", start);
    } else if (this.pointers.size === 1) {
      if (event.button === 1) this.begin("pan", start);
      else this.beginTool(start);
    }
  }

  /** @param {Gesture["kind"]} kind  @param {Point} start  @param {number} [index] */
  begin(kind, start, index = -1) {
    this.gesture = { kind, start, last: start, index, roi: this.roi, far: false };
    this.root.dataset.gesture = kind;
  }

  /** @param {Point} start */
  beginTool(start) {
    if (this.tool !== "rectangle" && this.tool !== "polygon") {
      this.begin("pan", start);
      return;
    }
    if (this.tool === "polygon" && this.draft) {
      this.begin("point", start);
      return;
    }
    const corners = this.roi ? cornersOf(this.roi).map((corner) => this.onScreen(corner)) : [];
    const corner = nearest(corners, start, GRIP);
    if (corner >= 0) this.begin("corner", start, corner);
    else if (inside(corners, start)) this.begin("move", start);
    else this.begin(this.tool === "polygon" ? "point" : "new", start);
  }

  /** @type {(world: Point) => Point} */
  onScreen(world) {
    return toScreen(this.view(), this.size, world);
  }

  /** @type {(screen: Point) => Point} */
  inWorld(screen) {
    return toWorld(this.view(), this.size, screen);
  }

  /** @param {PointerEvent} event */
  move(event) {
    const now = this.at(event);
    const before = [...this.pointers.entries()];
    if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, now);
    this.pointer = now;
    this.byKeys = false;
    const { gesture } = this;
    if (gesture?.kind === "pinch" && before.length === 2) {
      const points = (/** @type {[number, Point][]} */ all) =>
        /** @type {[Point, Point]} */ (all.map((entry) => entry[1]));
      const after = points([...this.pointers.entries()]);
      this.look(pinched(this.view(), this.size, points(before), after));
    } else if (gesture) {
      const distance = Math.hypot(now[0] - gesture.start[0], now[1] - gesture.start[1]);
      gesture.far ||= distance > CLICK;
      if (gesture.far) this.drag(gesture, now);
    }
    this.schedule();
    this.read();
  }

  /** @param {Gesture} gesture  @param {Point} now */
  drag(gesture, now) {
    const [from, to] = [this.inWorld(gesture.start), this.inWorld(now)];
    if (gesture.kind === "pan") {
      this.look(panned(this.view(), [now[0] - gesture.last[0], now[1] - gesture.last[1]]));
      gesture.last = now;
    } else if (gesture.kind === "new") {
      this.draft = rectangle(from, to);
    } else if (gesture.kind === "corner" && gesture.roi) {
      this.draft = withCorner(gesture.roi, gesture.index, to);
    } else if (gesture.kind === "move" && gesture.roi) {
      this.draft = movedRoi(gesture.roi, [to[0] - from[0], to[1] - from[1]]);
    }
  }

  /** @param {PointerEvent} event */
  up(event) {
    const { gesture } = this;
    if (!this.pointers.delete(event.pointerId) || !gesture) return;
    if (gesture.kind === "pinch" && this.pointers.size === 1) {
      this.begin("pan", [...this.pointers.values()][0]); // the other finger goes on
      gesture.far = true;
      return;
    }
    this.gesture = null;
    delete this.root.dataset.gesture;
    if (event.type === "pointercancel") {
      if (gesture.kind !== "point") this.draft = null;
    } else if (gesture.kind === "point") {
      this.addPoint(this.at(event));
    } else if (gesture.far && this.draft && gesture.kind !== "pan") {
      this.setRoi(this.draft);
    } else if (!gesture.far && this.tool === "select" && event.button === 0) {
      this.select(gesture.start, event.shiftKey);
    } else if (!gesture.far && this.tool === "pan" && event.button === 0) {
      this.click(gesture.start);
    }
    this.schedule();
    this.read();
  }

  /** Tell the kernel of a click: what that means is its business. @param {Point} at */
  click(at) {
    const [x, y] = this.inWorld(at);
    this.scene.send({ type: "click", x, y });
  }

  /** @param {Point} at */
  addPoint(at) {
    const points = this.draft?.points ?? [];
    const first = points.length > 2 ? [this.onScreen(points[0])] : [];
    if (nearest(first, at, GRIP) === 0) this.closePolygon();
    else this.draft = { kind: "polygon", points: [...points, this.inWorld(at)] };
    this.schedule();
  }

  closePolygon() {
    // the second click of a double click lies on the first: one corner
    const points = (this.draft?.points ?? []).filter((point, i, all) => {
      if (i === 0) return true;
      const [a, b] = [this.onScreen(all[i - 1]), this.onScreen(point)];
      return Math.hypot(a[0] - b[0], a[1] - b[1]) > CLICK;
    });
    if (points.length > 2) this.setRoi({ kind: "polygon", points });
  }

  leave() {
    if (this.gesture) return;
    this.pointer = null;
    this.answer = null;
    this.byKeys = false;
    this.schedule();
    this.read();
  }

  /** @param {WheelEvent} event */
  wheel(event) {
    event.preventDefault();
    event.stopPropagation();
    this.zoomBy(wheelFactor(event.deltaY, event.deltaMode, event.ctrlKey), this.at(event));
    this.pointer = this.at(event);
    this.read();
  }

  /** @param {MouseEvent} event */
  doubleClick(event) {
    event.preventDefault();
    if (this.tool === "polygon") this.closePolygon();
    else if (this.tool === "pan") this.zoomBy(event.shiftKey ? 0.5 : 2, this.at(event));
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.key === "Tab") return;
    const mine = event.composedPath()[0] === this.canvas;
    if (event.key === "Escape" && !this.draft) return; // full screen, and the notebook's own
    delete this.root.dataset.pointing;
    // a notebook takes letters for commands (dd deletes the cell) and arrows for its own
    event.stopPropagation();
    const act = this.actionOf(event);
    if (!act || (!mine && (event.key === "Enter" || event.key === " "))) return;
    event.preventDefault();
    act();
  }

  /** @type {(event: KeyboardEvent) => (() => void) | undefined} */
  actionOf(event) {
    const step = event.shiftKey ? 3 * NUDGE : NUDGE;
    const pan = (/** @type {number} */ x, /** @type {number} */ y) => () => {
      this.look(panned(this.view(), [x * step * this.size[0], y * step * this.size[1]]));
      this.pointAtMiddle();
    };
    const zoom = (/** @type {number} */ factor) => () => {
      this.zoomBy(factor);
      this.pointAtMiddle();
    };
    /** @type {Record<string, () => void>} */
    const actions = {
      ArrowLeft: pan(1, 0),
      ArrowRight: pan(-1, 0),
      ArrowUp: pan(0, 1),
      ArrowDown: pan(0, -1),
      "+": zoom(1.5),
      "=": zoom(1.5),
      "-": zoom(1 / 1.5),
      _: zoom(1 / 1.5),
      0: () => this.goHome(),
      Home: () => this.goHome(),
      f: () => this.toggleFullScreen(),
      Escape: () => this.abandon(),
      Enter: () => this.enter(event.shiftKey),
      " ": () => this.enter(event.shiftKey),
      Delete: () => this.remove(),
      Backspace: () => this.remove(),
    };
    return Object.hasOwn(actions, event.key) ? actions[event.key] : undefined;
  }

  abandon() {
    this.draft = null;
    this.anchor = null;
    this.gesture = null;
    this.pointers.clear();
    delete this.root.dataset.gesture;
    this.schedule();
  }

  /** The last corner of a polygon being drawn, or else the region. */
  remove() {
    const points = this.draft?.points ?? [];
    if (this.tool !== "rectangle" && this.tool !== "polygon") return;
    if (this.tool === "polygon" && points.length > 1) {
      this.draft = { kind: "polygon", points: points.slice(0, -1) };
      this.schedule();
    } else if (this.draft) this.abandon();
    else if (this.roi) this.setRoi(null);
  }

  /** A rectangle begun by a key reaches from its first corner to the middle. */
  stretch() {
    if (this.anchor && this.pointer) this.draft = rectangle(this.anchor, this.inWorld(this.pointer));
    this.schedule();
  }

  /** With keys the middle of the canvas is the pointer. */
  pointAtMiddle() {
    this.pointer = [this.size[0] / 2, this.size[1] / 2];
    this.byKeys = true;
    this.stretch();
    this.schedule();
    this.read();
  }

  /** What a click does, at the middle. @param {boolean} more */
  enter(more) {
    const middle = /** @type {Point} */ ([this.size[0] / 2, this.size[1] / 2]);
    const last = this.draft?.points.at(-1);
    // the same place again, or Enter after clicks, closes
    const again = last && (!this.byKeys || nearest([this.onScreen(last)], middle, CLICK) === 0);
    this.pointAtMiddle();
    if (this.tool === "select") this.select(middle, more);
    else if (this.tool === "pan") this.click(middle);
    else if (this.tool === "rectangle") this.enterCorner(middle);
    else if (this.tool === "polygon" && again) this.closePolygon();
    else if (this.tool === "polygon") this.addPoint(middle);
  }

  /** @param {Point} at */
  enterCorner(at) {
    const world = this.inWorld(at);
    if (this.anchor) this.setRoi(rectangle(this.anchor, world));
    else this.anchor = world;
    this.stretch();
  }

  // -------------------------------------------------------------- reading under the pointer

  /**
   * The topmost label, and what is wrong, at a point of the world.
   * @type {(world: Point) => {id: string, fault: string}}
   */
  under(world) {
    const { states, order, tiles } = this.scene;
    const newest = states[states.length - 1];
    let [id, fault] = ["", ""];
    let best = [-1, -Infinity];
    for (const tile of tiles.values()) {
      if (tile.state !== newest) continue;
      const rank = [order.indexOf(tile.layer), -tile.level];
      const higher = rank[0] > best[0] || (rank[0] === best[0] && rank[1] > best[1]);
      if (tile.format === "error") {
        if (pixelAt(tile, world)) fault = tile.message || "this tile could not be read";
      } else if (tile.runs && rank[0] >= 0 && higher) {
        const found = labelAt(tile, world);
        if (found && found !== "0") [id, best] = [found, rank];
        else if (found === "0" && rank[0] === best[0]) best = rank;
      }
    }
    return { id, fault };
  }

  /** Show what is under the pointer: position and label at once, intensities when they come. */
  read() {
    if (!this.visible()) return;
    const { pointer } = this;
    this.line.dataset.idle = String(!pointer);
    if (!pointer) {
      this.show(HELP[this.tool] ?? "", "", "");
      this.canvas.title = "";
      return;
    }
    const world = this.inWorld(pointer);
    const { id, fault } = this.under(world);
    const known = this.answer && String(this.answer.at) === String(world) ? this.answer : null;
    const position = known?.position || this.drawnAt(world) + (this.answer?.rest ?? "");
    const about = id && this.scene.properties.get(id);
    const label = id ? `label ${id}${about ? `: ${about}` : ""}` : "";
    const most = (this.answer?.values ?? []).slice(0, MOST_VALUES);
    const values = most.map(([name, value]) => `${name} ${value}`).join(", ");
    this.line.dataset.stale = String(!known);
    this.show(position, fault ? `⚠ ${fault}` : label, fault ? "" : values);
    this.canvas.title = fault;
    if (known) clearTimeout(this.staleTimer);
    else if (this.answer) this.staleAfter();
    this.say(fault || [position, label, values].filter(Boolean).join(", "));
    if (!known && !this.gesture) this.scene.probe(world, this);
  }

  /** The position of a point of the world on the axes that are drawn. @param {Point} world */
  drawnAt(world) {
    return positionText(world, this.view()[2], this.units, this.axes);
  }

  /** @param {string} position  @param {string} label  @param {string} values */
  show(position, label, values) {
    this.position.textContent = position;
    this.label.textContent = label;
    this.values.textContent = values;
    this.line.title = [position, label, values].filter(Boolean).join("\n");
  }

  /** @param {any} message  the kernel's answer to the probe of this pane */
  probed(message) {
    const values = Array.isArray(message.values) ? message.values : [];
    /** @type {Point} */
    const at = [message.x, message.y];
    const position = String(message.position ?? "");
    const drawn = this.drawnAt(at);
    // the other axes stay where they are while the pointer moves
    const rest = position.startsWith(drawn) ? position.slice(drawn.length) : "";
    this.answer = { at, position, rest, values };
    if (this.pointer) this.read();
  }

  /** What is under the pointer may be of another plane by now. */
  outdated() {
    if (this.answer) this.answer.at = [NaN, NaN];
    if (this.pointer) this.read();
  }

  /** Intensities of another place are soon no longer shown. */
  staleAfter() {
    clearTimeout(this.staleTimer);
    this.staleTimer = setTimeout(() => {
      this.answer = null;
      this.read();
    }, BUSY_AFTER);
  }

  /** To screen readers: the newest text, not too often. @param {string} text */
  say(text) {
    this.said = text;
    if (this.sayTimer) return;
    this.sayTimer = setTimeout(() => {
      this.sayTimer = undefined;
      if (this.pointer && this.live.textContent !== this.said) this.live.textContent = this.said;
    }, SAY_EVERY);
  }

  /** The kernel's note and our hint. */
  noted() {
    this.note.textContent = this.scene.note;
    this.hint.textContent = this.scene.hint;
    this.hint.hidden = !this.scene.hint;
    this.root.setAttribute("aria-busy", String(Boolean(this.scene.hint)));
  }

  // -------------------------------------------------------------- painting

  schedule() {
    if (this.scheduled) return;
    this.scheduled = requestAnimationFrame(() => this.paint());
  }

  paint() {
    cancelAnimationFrame(this.scheduled);
    this.scheduled = 0;
    if (!this.visible()) return;
    this.painted = ++this.scene.paintings;
    this.paintTiles();
    this.paintMarks();
    const bar = scaleBar(this.view()[2], this.units, Math.min(160, this.size[0] / 3));
    this.scaleText.textContent = bar.text;
    this.scaleBar.style.width = `${bar.pixels}px`;
  }

  paintTiles() {
    const context = this.canvas.getContext("2d");
    if (!context) return;
    const { scene } = this;
    const screen = screenMatrix(this.view(), this.size, this.ratio);
    clear(context);
    scene.order.forEach((layer, index) => {
      const tiles = this.tilesOf(layer);
      // a translucent tile replaces what is coarser or older, but not the layers below
      const opacity = scene.opacity[index] ?? 1;
      const apart = opacity < 1 || (index > 0 && tiles.some((tile) => tile.format === "png"));
      const target = apart ? this.scratch.getContext("2d") : context;
      if (!target || tiles.length === 0 || !(opacity > 0)) return;
      if (apart) clear(target);
      for (const tile of tiles) this.paintTile(target, tile, screen);
      if (apart) {
        context.setTransform(1, 0, 0, 1, 0, 0);
        context.globalAlpha = opacity;
        context.drawImage(this.scratch, 0, 0);
        context.globalAlpha = 1;
      }
    });
  }

  /** @type {(layer: string) => Tile[]}  from the lowest to the topmost */
  tilesOf(layer) {
    const { scene } = this;
    return scene.states.flatMap((state) => {
      const tiles = [...scene.tiles.values()].filter(
        (tile) => tile.layer === layer && tile.state === state,
      );
      const target = scene.target(layer, tiles, this.view()[2], this.ratio);
      for (const tile of tiles) tile.topmost = tile.level === target;
      return stacked(tiles, target);
    });
  }

  /** @param {CanvasRenderingContext2D} context  @param {Tile} tile  @param {Matrix} screen */
  paintTile(context, tile, screen) {
    const { width, height } = this.canvas;
    const place = placed(multiply(screen, tile.matrix), tile.width, tile.height, width, height);
    if (!place) return;
    tile.used = this.painted;
    const [sx, sy, sw, sh] = place.source;
    context.setTransform(...place.matrix);
    if (!tile.bitmap) {
      hatch(context, sw, sh, this.ratio);
      return;
    }
    if (tile.format === "png") context.clearRect(0, 0, sw, sh);
    // the pixels of the finest level are to be seen; a coarser one is but in its place
    const magnified = pixelSize(tile) * screen[0] > 1;
    context.imageSmoothingEnabled = !magnified || tile.level > 0 || Boolean(this.model.get("smooth"));
    context.drawImage(tile.bitmap, sx, sy, sw, sh, 0, 0, sw, sh);
  }

  paintMarks() {
    const context = this.marks.getContext("2d");
    if (!context) return;
    clear(context);
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    const [w, h] = this.size;
    const crosshair = this.model.get("crosshair");
    if (Array.isArray(crosshair) && crosshair.every(Number.isFinite)) {
      const [x, y] = this.onScreen(/** @type {Point} */ (crosshair)).map((v) => Math.round(v) + 0.5);
      strokeTwice(context, "#4dd2ff", 1, () => {
        line(context, [[0, y], [w, y]]);
        line(context, [[x, 0], [x, h]]);
      });
    }
    if (this.byKeys) {
      const [x, y] = [Math.round(w / 2) + 0.5, Math.round(h / 2) + 0.5];
      strokeTwice(context, "#fff", 1.5, () => {
        line(context, [[x - 8, y], [x + 8, y]]);
        line(context, [[x, y - 8], [x, y + 8]]);
      });
    }
    this.paintRoi(context);
  }

  /** @param {CanvasRenderingContext2D} context */
  paintRoi(context) {
    const { draft, roi, gesture, pointer } = this;
    const changing = gesture?.kind === "corner" || gesture?.kind === "move";
    if (draft?.kind !== "polygon" || changing) {
      const shape = draft ?? roi;
      if (shape) this.paintShape(context, cornersOf(shape), true, true);
      return;
    }
    if (roi) this.paintShape(context, cornersOf(roi), true, false);
    const next = pointer ? [this.inWorld(pointer)] : [];
    this.paintShape(context, [...draft.points, ...next], false, true);
  }

  /** @param {CanvasRenderingContext2D} context  @param {Point[]} world  @param {boolean} closed  @param {boolean} grips */
  paintShape(context, world, closed, grips) {
    const points = world.map((point) => this.onScreen(point));
    strokeTwice(context, "#ffd60a", 2, () => line(context, points, closed));
    if (!grips || (this.tool !== "rectangle" && this.tool !== "polygon")) return;
    context.fillStyle = "#ffd60a";
    context.strokeStyle = "#000";
    context.lineWidth = 1;
    for (const [x, y] of points) {
      context.fillRect(x - 4, y - 4, 8, 8);
      context.strokeRect(x - 4, y - 4, 8, 8);
    }
  }
}

/** @type {(context: CanvasRenderingContext2D) => void} */
function clear(context) {
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, context.canvas.width, context.canvas.height);
}

/** @type {(context: CanvasRenderingContext2D, points: Point[], closed?: boolean) => void} */
function line(context, points, closed = false) {
  points.forEach(([x, y], i) => (i === 0 ? context.moveTo(x, y) : context.lineTo(x, y)));
  if (closed) context.closePath();
}

/**
 * A line that is seen on any picture: its colour over a dark one.
 * @type {(context: CanvasRenderingContext2D, color: string, width: number, trace: () => void) => void}
 */
function strokeTwice(context, color, width, trace) {
  context.lineJoin = "round";
  context.beginPath();
  trace();
  context.strokeStyle = "rgba(0, 0, 0, 0.6)";
  context.lineWidth = width + 2;
  context.stroke();
  context.strokeStyle = color;
  context.lineWidth = width;
  context.stroke();
}

/**
 * The mark of a tile that could not be read, over width by height of its pixels.
 * @type {(context: CanvasRenderingContext2D, width: number, height: number, ratio: number) => void}
 */
function hatch(context, width, height, ratio) {
  const { a, b, c, d, e, f } = context.getTransform();
  const corners = [[0, 0], [width, 0], [width, height], [0, height]].map((corner) =>
    apply([a, b, c, d, e, f], /** @type {Point} */ (corner)),
  );
  const [x0, y0, x1, y1] = boxOf(corners);
  context.save();
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.beginPath();
  line(context, corners, true);
  context.clip();
  context.fillStyle = "#3a2323";
  context.fillRect(x0, y0, x1 - x0, y1 - y0);
  context.beginPath();
  const step = 12 * ratio;
  const [left, right] = [Math.max(x0, 0), Math.min(x1, context.canvas.width)];
  const [top, bottom] = [Math.max(y0, 0), Math.min(y1, context.canvas.height)];
  const high = bottom - top;
  // lines x + y = a multiple of the step, so that they run on from tile to tile
  for (let at = Math.floor((left + top) / step) * step; at < right + bottom; at += step) {
    line(context, [[at - top, top], [at - top - high, bottom]]);
  }
  context.strokeStyle = "#d08a8a";
  context.lineWidth = 2 * ratio;
  context.stroke();
  context.restore();
}

/** A widget's definition: one scene a model, one pane a view. */
export default function canvas() {
  /** @type {Scene} */
  let scene;
  return {
    /** @param {{model: any}} context */
    initialize({ model }) {
      scene = new Scene(model);
      return () => scene.close();
    },
    /** @param {{model: any, el: HTMLElement}} context */
    render({ el }) {
      const pane = new Pane(scene, el);
      return () => pane.close();
    },
  };
}
