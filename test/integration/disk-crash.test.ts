/** Goal: kill -9 costs no confirmed object and brings nothing back. Method: the lab's run in short (`npm run lab -- disk-crash`). */
import { expect, test } from "vitest";
import { crash } from "../tools/disk/crash.ts";

test.each([
  ["room for everything", 64 * 2 ** 30],
  ["segments that are reclaimed all the time", 24 * 2 ** 20],
])("a writer that is killed four times, in a store with %s", async (_what, bytesMax) => {
  const report = await crash({
    kills: 4,
    seed: "short",
    bytesMax,
    keys: 300,
    bodyBytesMax: 2 ** 20,
    lifeMsMax: 300,
  });
  expect(report.corruptBodies).toBe(0);
  expect(report.resurrected).toBe(0);
  expect(report.damagedRecords).toBe(0);
  expect(report.objectsRead).toBeGreaterThan(300);
  expect(report.killsWhileWriting).toBeGreaterThan(0);
  expect(report.confirmed).toBeGreaterThan(100);
  if (bytesMax > 2 ** 30) expect(report.readable).toBe(report.confirmed);
  else expect(report.readable).toBeLessThan(report.confirmed);
});
