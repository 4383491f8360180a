import { expect, test } from "vitest";
import type { CacheKey } from "../../../edge/core/cache-key.ts";
import { MISSED_CHARACTERS_MAX, MissedKeys } from "../../../edge/core/missed-keys.ts";

const key = (name: string): CacheKey => `http://a.example/${name}` as CacheKey;

test("each key once, until they are taken; too many are everything", () => {
  const missed = new MissedKeys();
  expect(missed.take()).toBeUndefined();
  missed.add([key("a"), key("b")]);
  missed.add([key("a")]);
  expect(missed.take()).toEqual([key("a"), key("b")]);
  expect(missed.take()).toBeUndefined();
  missed.add([key("a"), key("b".repeat(MISSED_CHARACTERS_MAX)), key("c")]);
  expect(missed.take()).toBe("all");
  missed.add([key("a")]);
  missed.add("all");
  missed.add([key("b")]);
  expect(missed.take()).toBe("all");
  expect(missed.take()).toBeUndefined();
});
