/**
 * Goal: the JSON Schema in the tree is the one that the parser's schema describes. Method: compare; with
 * ISOCHRONE_UPDATE=1 the file is written instead, after a change of kit/world/world.ts.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { worldJsonSchema } from "#kit/world";

const file = new URL("../../../deploy/worlds/world.schema.json", import.meta.url);

test("deploy/worlds/world.schema.json is up to date (ISOCHRONE_UPDATE=1 writes it)", () => {
  const text = `${JSON.stringify(worldJsonSchema(), null, 2)}\n`;
  if (process.env["ISOCHRONE_UPDATE"] === "1") writeFileSync(file, text);
  expect(readFileSync(file, "utf8")).toBe(text);
});
