import { expect, test } from "vitest";
import { mappingSettings } from "#mapping";

test("every default lies in its range, every name stands once", () => {
  for (const { name, value, min, max } of mappingSettings)
    expect([name, value >= min && value <= max]).toEqual([name, true]);
  expect(new Set(mappingSettings.map(({ name }) => name)).size).toBe(mappingSettings.length);
});
