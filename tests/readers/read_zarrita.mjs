// zarrita, in node: groups and arrays. It comes by standard input, where zarrita is installed:
// `node --input-type=module - STORE ... < read_zarrita.mjs`. What is printed is that of told.py.
// @ts-check
import { createHash } from "node:crypto";
import { basename, resolve } from "node:path";
import FileSystemStore from "@zarrita/storage/fs";
import * as zarr from "zarrita";

/** @param {string} path */
async function ome(path) {
  const group = await zarr.open(zarr.root(new FileSystemStore(path)), { kind: "group" });
  return group.attrs.ome ?? group.attrs;
}

/** @param {string} path */
async function read(path) {
  const array = await zarr.open(zarr.root(new FileSystemStore(path)), { kind: "array" });
  const { data, shape } = await zarr.get(array);
  return { data, shape, dtype: array.dtype };
}

/** @param {any} said */
function geometry(said) {
  const [multiscale] = said.multiscales;
  const axes = multiscale.axes ?? multiscale.coordinateSystems[0].axes;
  const levels = multiscale.datasets.map(({ path, coordinateTransformations: steps }) => {
    const found = Object.fromEntries(
      (steps[0].transformations ?? steps).map((step) => [step.type, step[step.type]]),
    );
    return { path, scale: found.scale, translation: found.translation ?? axes.map(() => 0) };
  });
  return { axes: axes.map(({ name, unit }) => [name, unit ?? null]), levels };
}

/** @param {string} path @param {any} said */
async function readOne(path, said) {
  const { axes, levels } = geometry(said);
  const found = [];
  for (const { path: below, scale, translation } of levels) {
    const { data, shape, dtype } = await read(`${path}/${below}`);
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    const voxels = createHash("sha256").update(bytes).digest("hex");
    found.push({ shape, dtype, voxels, scale, translation });
  }
  const channels = said.omero?.channels.map(({ label, color }) => [label, color]) ?? null;
  return { axes, levels: found, channels, labels: {} };
}

/** @param {string} path */
async function readImage(path) {
  const found = await readOne(path, await ome(path));
  const { labels } = await ome(`${path}/labels`).catch(() => ({ labels: [] }));
  for (const name of labels) {
    const below = `${path}/labels/${name}`;
    const said = await ome(below);
    const { data } = await read(`${below}/${geometry(said).levels[0].path}`);
    const ids = [...new Set(data)].sort((a, b) => a - b);
    const { axes, levels } = await readOne(below, said);
    found.labels[name] = { axes, levels, ids };
  }
  return found;
}

/** @param {string} path */
async function readPlate(path) {
  const wells = {};
  for (const { path: well } of (await ome(path)).plate.wells) {
    wells[well] = {};
    for (const { path: field } of (await ome(`${path}/${well}`)).well.images) {
      wells[well][field] = await readImage(`${path}/${well}/${field}`);
    }
  }
  return { wells };
}

const found = {};
for (const path of process.argv.slice(2).map((each) => resolve(each))) {
  const name = basename(path);
  try {
    found[name] = await (name.startsWith("plate") ? readPlate : readImage)(path);
  } catch (error) {
    found[name] = { error: String(error) };
  }
}
console.log(JSON.stringify(found));
