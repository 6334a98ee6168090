// The canvas's pure functions. Run by `node --test tests/js/canvas.test.mjs`.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";

// the module as a browser has it: a .js file, and no package.json that calls it a module
const source = readFileSync(new URL("../../ngff_xarray/widgets/canvas.js", import.meta.url));
const canvas = await import(`data:text/javascript;base64,${source.toString("base64")}`);

const near = (actual, expected, tolerance = 1e-9) => {
  assert.equal(actual.length, expected.length);
  actual.forEach((value, i) => {
    assert.ok(Math.abs(value - expected[i]) <= tolerance, `${actual} is not ${expected}`);
  });
};
const view = [120, -40, 0.25];
const size = [800, 600];
const tile = (more) => ({
  key: "k",
  layer: "image",
  state: "0",
  level: 0,
  matrix: [1, 0, 0, 1, 0, 0],
  width: 256,
  height: 256,
  format: "jpeg",
  bitmap: null,
  runs: null,
  used: 0,
  topmost: false,
  ...more,
});

describe("world and screen", () => {
  it("the middle of the canvas is the view's position", () => {
    near(canvas.toWorld(view, size, [400, 300]), [120, -40]);
    near(canvas.toScreen(view, size, [120, -40]), [400, 300]);
  });

  it("there and back is where it was", () => {
    for (const point of [[0, 0], [800, 600], [13.5, -7]]) {
      near(canvas.toScreen(view, size, canvas.toWorld(view, size, point)), point);
    }
  });

  it("the matrix in device pixels is the same way", () => {
    const matrix = canvas.screenMatrix(view, size, 2);
    near(canvas.apply(matrix, [121, -39]), canvas.toScreen(view, size, [121, -39]).map((v) => 2 * v));
  });

  it("a matrix times its inverse does nothing, rotated and sheared ones too", () => {
    const matrix = [0.3, 0.7, -1.2, 0.4, 5, -6];
    near(canvas.multiply(matrix, canvas.invert(matrix)), [1, 0, 0, 1, 0, 0]);
    near(canvas.apply(canvas.multiply([2, 0, 0, 2, 1, 1], matrix), [3, 4]), canvas.apply([2, 0, 0, 2, 1, 1], canvas.apply(matrix, [3, 4])));
  });

  it("a flat matrix has no inverse", () => {
    assert.equal(canvas.invert([1, 2, 2, 4, 0, 0]), null);
    assert.equal(canvas.invert([0, 0, 0, 0, 0, 0]), null);
  });
});

describe("where one looks", () => {
  it("home shows everything, in the middle", () => {
    near(canvas.homeView([0, 0, 1000, 300], size), [500, 150, 1.25]);
    near(canvas.homeView([-10, 0, 10, 600], size), [0, 300, 1]);
  });

  it("home of nothing is still a view", () => {
    assert.deepEqual(canvas.homeView([3, 4, 3, 4], size), [3, 4, 1]);
    assert.deepEqual(canvas.homeView([0, 0, NaN, 1], size).slice(2), [1]);
  });

  it("zooming keeps what lies under the pointer", () => {
    const pointer = [700, 20];
    const closer = canvas.zoomed(view, size, pointer, 3);
    assert.ok(Math.abs(closer[2] - 0.25 / 3) < 1e-12);
    near(canvas.toWorld(closer, size, pointer), canvas.toWorld(view, size, pointer));
  });

  it("panning moves the world with the hand", () => {
    const moved = canvas.panned(view, [30, -8]);
    near(canvas.toWorld(moved, size, [130, 92]), canvas.toWorld(view, size, [100, 100]));
  });

  it("a pinch keeps what lies under both fingers", () => {
    const [a, b] = [[100, 100], [300, 200]];
    const [c, d] = [[50, 120], [450, 320]];
    const pinched = canvas.pinched(view, size, [a, b], [c, d]);
    near(canvas.toWorld(pinched, size, c), canvas.toWorld(view, size, a));
    near(canvas.toWorld(pinched, size, d), canvas.toWorld(view, size, b));
  });

  it("two fingers in one place do not divide by zero", () => {
    const pinched = canvas.pinched(view, size, [[5, 5], [5, 5]], [[6, 6], [6, 6]]);
    assert.ok(pinched.every(Number.isFinite) && pinched[2] > 0);
  });

  it("a wheel event zooms alike in pixels, lines and pages, and never far", () => {
    assert.ok(canvas.wheelFactor(-100, 0, false) > 1);
    assert.ok(canvas.wheelFactor(3, 1, false) < 1);
    assert.equal(canvas.wheelFactor(1e9, 0, false), canvas.wheelFactor(1e6, 2, false));
    assert.ok(canvas.wheelFactor(-10, 0, true) > canvas.wheelFactor(-10, 0, false));
  });

  it("the world cannot be lost", () => {
    const home = [0, 0, 100, 100];
    near(canvas.clamped([-500, 50, 0.1], home, size, 0), [0, 50, 0.1]);
    assert.equal(canvas.clamped([50, 50, 1e9], home, size, 0)[2], 4 * (100 / 600));
    assert.equal(canvas.clamped([50, 50, 1e-9], home, size, 0.5)[2], 0.5 / 64);
  });

  it("a small image may be looked at as a whole, however large its pixels are then", () => {
    assert.equal(canvas.clamped([1, 1, 2 / 600], [0, 0, 2, 2], size, 1)[2], 2 / 600);
  });

  it("views from Python are numbers, or home", () => {
    assert.deepEqual(canvas.validView([1, 2, 3]), [1, 2, 3]);
    for (const bad of [null, [1, 2], [1, 2, 0], [1, 2, -1], [NaN, 2, 1], "abc"]) {
      assert.equal(canvas.validView(bad), null);
    }
  });
});

describe("where a tile goes", () => {
  it("neighbours meet at a whole pixel", () => {
    for (const scale of [0.37, 1, 1.731, 3.3]) {
      const left = canvas.placed([scale, 0, 0, scale, 10.3, 5.7], 100, 100, 2000, 2000);
      const right = canvas.placed([scale, 0, 0, scale, 10.3 + 100 * scale, 5.7], 100, 100, 2000, 2000);
      const end = left.matrix[4] + left.matrix[0] * left.source[2];
      assert.ok(Math.abs(end - right.matrix[4]) < 1e-9);
      assert.ok(Number.isInteger(right.matrix[4]));
    }
  });

  it("what is outside is not drawn", () => {
    assert.equal(canvas.placed([1, 0, 0, 1, 500, 0], 100, 100, 500, 500), null);
    assert.equal(canvas.placed([1, 0, 0, 1, -100, 0], 100, 100, 500, 500), null);
    assert.equal(canvas.placed([NaN, 0, 0, 1, 0, 0], 100, 100, 500, 500), null);
  });

  it("of a tile far larger than the canvas only what is seen is drawn", () => {
    const scale = 1e5;
    const { matrix, source } = canvas.placed([scale, 0, 0, scale, -5e6 + 3, -5e6], 256, 256, 800, 600);
    assert.ok(source[2] <= 4 && source[3] <= 4);
    const x = (50 - source[0]) * matrix[0] + matrix[4];
    assert.ok(Math.abs(x - 3) < 1e-6, "pixel 50 begins where it should");
  });

  it("mirrored tiles stay mirrored", () => {
    const { matrix, source } = canvas.placed([-2, 0, 0, 2, 300, 0], 100, 100, 800, 600);
    assert.deepEqual(source, [0, 0, 100, 100]);
    near(matrix, [-2, 0, 0, 2, 300, 0]);
  });

  it("tiles turned by 90 degrees end at whole pixels", () => {
    const { matrix } = canvas.placed([0, 1.5, -1.5, 0, 200.4, 7.3], 100, 50, 800, 600);
    near(canvas.apply(matrix, [0, 0]), [200, 7]);
    near(canvas.apply(matrix, [100, 50]), [125, 157]);
  });

  it("rotated tiles reach half a pixel over their edges", () => {
    const [cos, sin] = [Math.cos(0.3), Math.sin(0.3)];
    const matrix = [2 * cos, 2 * sin, -2 * sin, 2 * cos, 300, 100];
    const place = canvas.placed(matrix, 100, 80, 800, 600).matrix;
    const [x, y] = canvas.apply(canvas.invert(matrix), canvas.apply(place, [0, 0]));
    near([x, y], [-0.25, -0.25]);
    near(canvas.apply(canvas.invert(matrix), canvas.apply(place, [100, 80])), [100.25, 80.25]);
  });

  it("tiles of less than a pixel are not drawn", () => {
    assert.equal(canvas.placed([0.001, 0, 0, 0.001, 10.1, 10.1], 100, 100, 800, 600), null);
  });
});

describe("which tile lies on which", () => {
  const level = (number) => tile({ level: number, matrix: [2 ** number, 0, 0, 2 ** number, 0, 0] });
  const levels = [0, 1, 2, 3].map(level);

  it("the level is the coarsest that leaves no screen pixel without its own", () => {
    assert.equal(canvas.targetLevel(levels, 4), 2);
    assert.equal(canvas.targetLevel(levels, 3.7), 1);
    assert.equal(canvas.targetLevel(levels, 0.1), 0);
    assert.equal(canvas.targetLevel([levels[2], levels[3]], 0.1), 2);
    assert.equal(canvas.targetLevel([], 1), 0);
  });

  it("coarse lies below fine, and what the view calls for on top", () => {
    const order = (target) => canvas.stacked(levels, target).map((each) => each.level);
    assert.deepEqual(order(0), [3, 2, 1, 0]);
    assert.deepEqual(order(2), [3, 0, 1, 2]);
  });

  it("what was drawn longest ago goes first, and of those the finest", () => {
    const tiles = [tile({ key: "a", used: 1, level: 1 }), tile({ key: "b", used: 1 }), tile({ key: "c", used: 5 })];
    const keys = canvas.evicted(tiles, 1, 5, () => false).map((each) => each.key);
    assert.deepEqual(keys, ["b", "a"]);
    assert.deepEqual(canvas.evicted(tiles, 3, 5, () => false), []);
  });

  it("what the screen shows stays, however much it is", () => {
    const tiles = Array.from({ length: 10 }, (_, i) => tile({ key: String(i), used: 5 }));
    assert.deepEqual(canvas.evicted(tiles, 3, 5, () => true), []);
    assert.equal(canvas.evicted(tiles, 3, 6, () => true).length, 7);
  });

  it("the size of a pixel does not depend on rotation", () => {
    assert.ok(Math.abs(canvas.pixelSize(tile({ matrix: [0, 3, -3, 0, 0, 0] })) - 3) < 1e-12);
  });
});

describe("labels under the pointer", () => {
  const runs = (lengths, ids, width = 4, height = 2) => ({
    ends: canvas.runEnds(new Uint16Array(lengths)),
    ids,
    width,
    height,
  });

  it("every pixel has the label of its run", () => {
    const made = runs([3, 1, 4], new Uint32Array([0, 7, 9]));
    const found = Array.from({ length: 8 }, (_, i) => canvas.idAt(made, i));
    assert.deepEqual(found, ["0", "0", "0", "7", "9", "9", "9", "9"]);
  });

  it("beyond the tile there is none", () => {
    const made = runs([8], new Uint32Array([5]));
    for (const index of [-1, 8, NaN]) assert.equal(canvas.idAt(made, index), "");
    assert.equal(canvas.idAt(runs([], new Uint32Array()), 0), "");
  });

  it("runs that were cut, and runs of nothing, make no difference", () => {
    const made = runs([65535, 0, 10, 5], new Uint32Array([3, 99, 3, 4]));
    assert.deepEqual([65534, 65535, 65544, 65545].map((i) => canvas.idAt(made, i)), ["3", "3", "3", "4"]);
  });

  it("ids beyond 2^53 are exact", () => {
    const made = runs([8], new BigUint64Array([2n ** 60n + 1n]));
    assert.equal(canvas.idAt(made, 0), "1152921504606846977");
  });

  it("the pixel is found through the tile's matrix", () => {
    const turned = tile({ matrix: [0, 2, -2, 0, 100, 50], width: 4, height: 2 });
    assert.deepEqual(canvas.pixelAt(turned, [99, 57]).map(Math.floor), [3, 0]);
    assert.equal(canvas.pixelAt(turned, [101, 57]), null);
    turned.runs = runs([3, 1, 4], new Uint32Array([0, 7, 9]));
    assert.equal(canvas.labelAt(turned, [99, 57]), "7");
    assert.equal(canvas.labelAt(turned, [97, 51]), "9");
    assert.equal(canvas.labelAt(turned, [0, 0]), "");
  });

  it("labels may be coarser than the picture", () => {
    const coarse = tile({ width: 8, height: 4, runs: runs([3, 1, 4], new Uint32Array([0, 7, 9])) });
    assert.equal(canvas.labelAt(coarse, [7.9, 1.9]), "7");
    assert.equal(canvas.labelAt(coarse, [7.9, 2]), "9");
  });
});

describe("lengths", () => {
  const units = [["nm", 0.001], ["µm", 1], ["mm", 1000]];

  it("a scale bar is 1, 2 or 5 times a power of ten, in a unit that reads well", () => {
    assert.equal(canvas.scaleBar(1, units, 160).text, "100 µm");
    assert.equal(canvas.scaleBar(0.33, units, 160).text, "50 µm");
    assert.equal(canvas.scaleBar(0.001, units, 160).text, "100 nm");
    assert.equal(canvas.scaleBar(20, units, 160).text, "2 mm");
    assert.equal(canvas.scaleBar(0.5, [], 160).text, "50 px");
    assert.equal(canvas.scaleBar(0.0005, [], 160).text, "0.05 px");
  });

  it("a scale bar is as long as it says, and at most as wide as it may be", () => {
    for (let upp = 1e-6; upp < 1e6; upp *= 1.37) {
      const { text, pixels } = canvas.scaleBar(upp, units, 160);
      const [value, symbol] = text.split(" ");
      const length = units.find((unit) => unit[0] === symbol)[1];
      assert.ok(Math.abs(pixels * upp - value * length) < 1e-6 * value * length);
      assert.ok(pixels <= 160.001 && pixels > 160 / 2.51, `${text}: ${pixels}`);
    }
  });

  it("a length is 1, 2 or 5 at the powers of ten, too", () => {
    assert.deepEqual([1, 2, 5, 10, 0.1, 0.002, 999].map(canvas.roundLength), [1, 2, 5, 10, 0.1, 0.002, 500]);
  });

  it("positions have the digits that a pixel is worth", () => {
    assert.equal(canvas.positionText([12.345, 6.789], 0.1, units, ["x", "y"]), "x 12.3 µm, y 6.8 µm");
    assert.equal(canvas.positionText([12.345, -0.2], 1, [], ["x", "z"]), "x 12 px, z 0 px");
  });
});

describe("regions", () => {
  it("a rectangle is its least and its greatest corner, however it was drawn", () => {
    const roi = canvas.rectangle([5, 1], [2, 9]);
    assert.deepEqual(roi, { kind: "rectangle", points: [[2, 1], [5, 9]] });
    assert.deepEqual(canvas.cornersOf(roi), [[2, 1], [5, 1], [5, 9], [2, 9]]);
  });

  it("each corner of a rectangle can be dragged, the opposite one stays", () => {
    const roi = canvas.rectangle([0, 0], [10, 10]);
    canvas.cornersOf(roi).forEach((_, index) => {
      const opposite = canvas.cornersOf(roi)[(index + 2) % 4];
      const corners = canvas.cornersOf(canvas.withCorner(roi, index, [20, 30]));
      assert.ok(corners.some((corner) => String(corner) === String(opposite)));
      assert.ok(corners.some((corner) => String(corner) === "20,30"));
    });
  });

  it("a polygon keeps its other corners", () => {
    const roi = { kind: "polygon", points: [[0, 0], [4, 0], [4, 4]] };
    assert.deepEqual(canvas.withCorner(roi, 1, [9, 9]).points, [[0, 0], [9, 9], [4, 4]]);
    assert.deepEqual(canvas.movedRoi(roi, [1, 2]).points, [[1, 2], [5, 2], [5, 6]]);
    assert.deepEqual(roi.points, [[0, 0], [4, 0], [4, 4]]);
  });

  it("the nearest corner within reach is taken", () => {
    assert.equal(canvas.nearest([[0, 0], [5, 5], [6, 6]], [5.8, 5.8], 3), 2);
    assert.equal(canvas.nearest([[0, 0]], [5, 5], 3), -1);
    assert.equal(canvas.nearest([], [5, 5], 3), -1);
  });

  it("inside and outside of a polygon with a bay", () => {
    const bay = [[0, 0], [10, 0], [10, 10], [5, 4], [0, 10]];
    assert.ok(canvas.inside(bay, [5, 2]));
    assert.ok(!canvas.inside(bay, [5, 8]));
    assert.ok(!canvas.inside(bay, [11, 5]));
    assert.ok(!canvas.inside([], [0, 0]));
  });

  it("regions that cannot be drawn are none", () => {
    for (const bad of [null, undefined, {}, { kind: "circle", points: [[0, 0], [1, 1]] }, { kind: "polygon", points: [[0, "a"], [1, 1]] }, { kind: "rectangle", points: [[0, 0]] }]) {
      assert.equal(canvas.validRoi(bad), null);
    }
    assert.ok(canvas.validRoi(canvas.rectangle([0, 0], [1, 1])));
  });
});

describe("selections", () => {
  it("a click selects one label, again none; shift adds and takes away", () => {
    assert.deepEqual(canvas.toggled([], "3", false), ["3"]);
    assert.deepEqual(canvas.toggled(["3"], "3", false), []);
    assert.deepEqual(canvas.toggled(["3", "4"], "3", false), ["3"]);
    assert.deepEqual(canvas.toggled(["3"], "4", true), ["3", "4"]);
    assert.deepEqual(canvas.toggled(["3", "4"], "3", true), ["4"]);
  });

  it("a click on the background selects none, with shift it changes nothing", () => {
    assert.deepEqual(canvas.toggled(["3"], "", false), []);
    assert.deepEqual(canvas.toggled(["3"], "", true), ["3"]);
  });
});

describe("pages", () => {
  it("of the browser's own machine are near", () => {
    for (const name of ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"]) assert.ok(canvas.isNear(name));
    for (const name of ["", "hub.example.org", "127.0.0.1.example.org", "10.0.0.1", "localhost.example.org"]) {
      assert.ok(!canvas.isNear(name), name);
    }
  });
});

describe("questions", () => {
  it("one is in flight, and of those that wait only the newest is sent", () => {
    let now = 0;
    const sent = [];
    const questions = new canvas.LatestWins(() => sent.push(now));
    for (now = 1; now <= 5; now++) questions.ask();
    assert.deepEqual(sent, [1]);
    questions.settle();
    assert.deepEqual(sent, [1, 6], "the question is made when it is sent");
    questions.settle();
    questions.settle();
    assert.equal(sent.length, 2);
    questions.stop();
  });

  it("a lost answer does not silence it for ever", async () => {
    const sent = [];
    const questions = new canvas.LatestWins(() => sent.push(0), 20);
    questions.ask();
    questions.ask();
    assert.equal(sent.length, 1);
    await new Promise((resolve) => setTimeout(resolve, 200));
    questions.stop();
    assert.equal(sent.length, 2);
  });
});
