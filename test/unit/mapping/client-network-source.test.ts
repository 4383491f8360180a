import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createLogger } from "#kit/io";
import { ClientNetworkSource, type NetworkRecord, networkFileLines, writeNetworkFile } from "#mapping";
import { network } from "./fixtures.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "isochrone-source-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

const one = (name: string): NetworkRecord => ({
  clientNetworkId: network(name),
  prefixes: ["10.0.0.0/8"],
  demandPerSecond: 3,
  asNumber: 7,
  country: "DE",
  city: "Berlin",
  coordinates: null,
});

function source(file: string | undefined) {
  const taken: string[][] = [];
  const made = new ClientNetworkSource({
    file,
    stateDirectory: directory,
    world: [
      {
        clientNetworkId: network("world"),
        prefixes: ["192.0.2.0/24"],
        coordinates: null,
        demandPerSecond: 1,
      },
    ],
    logger: createLogger({ role: "mapper", id: "test" }, { level: "silent" }),
    onNetworks: (networks) => taken.push(networks.map(({ clientNetworkId }) => clientNetworkId)),
  });
  return { made, taken };
}

test("without a file the world's networks are in force, and there is nothing to read again", async () => {
  const { made, taken } = source(undefined);
  await made.start();
  expect(taken).toEqual([["world"]]);
  expect(made.reload()).toBe(false);
  expect(made.state).toMatchObject({ file: null, networks: 1, taken: 0 });
});

test("a file is read again; one that is cut, empty or gone replaces nothing and is told of", async () => {
  const file = join(directory, "networks.ndjson");
  await writeNetworkFile(file, [one("a")], 1_000);
  const { made, taken } = source(file);
  await made.start();
  const [first, ...rest] = [...networkFileLines([one("b")], 2_000)];
  for (const content of [first ?? "", "", undefined]) {
    if (content === undefined) renameSync(file, `${file}.gone`);
    else writeFileSync(file, content);
    made.reload();
    await made.settled();
  }
  expect(taken).toEqual([["a"]]);
  expect(made.state).toMatchObject({ networks: 1, createdAtEpochMs: 1_000, taken: 1, refused: 3 });
  expect(made.state.problem).toContain("ENOENT");

  writeFileSync(file, [first, ...rest].join(""));
  expect([made.reload(), made.reload()]).toEqual([true, true]);
  await made.settled();
  expect(taken.slice(1)).toEqual([["b"], ["b"]]);
  expect(made.state).toMatchObject({ createdAtEpochMs: 2_000, problem: null });

  // After a restart with a bad file the last good one is still there.
  writeFileSync(file, "");
  const restarted = source(file);
  await restarted.made.start();
  expect(restarted.taken).toEqual([["b"]]);
  expect(restarted.made.state).toMatchObject({ refused: 1, createdAtEpochMs: 2_000 });
});

test("a start with a bad file and none that was kept is refused", async () => {
  const file = join(directory, "networks.ndjson");
  writeFileSync(file, "{}\n");
  await expect(source(file).made.start()).rejects.toThrow(/Cannot take client networks from .*line\[1\]/);
});

test("what cannot be put in force is refused like a bad file", async () => {
  const file = join(directory, "networks.ndjson");
  await writeNetworkFile(file, [one("a")], 1_000);
  const made = new ClientNetworkSource({
    file,
    stateDirectory: directory,
    world: [],
    logger: createLogger({ role: "mapper", id: "test" }, { level: "silent" }),
    onNetworks: () => {
      throw new RangeError("no");
    },
  });
  await expect(made.start()).rejects.toThrow("no");
  expect(made.state).toMatchObject({ networks: 0, taken: 0, refused: 1 });
});
