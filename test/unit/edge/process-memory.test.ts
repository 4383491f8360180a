import { expect, test } from "vitest";
import { HEAP_FLAGS, withHeapFlags, withMallocEnvironment } from "#edge";

test("flags are added once, and what the operator states stays, however it is spelt", () => {
  const [growing, least, most] = HEAP_FLAGS;
  expect(withHeapFlags([])).toEqual([growing, least, most]);
  expect(withHeapFlags(["--import=a.mjs"])).toEqual([growing, least, most, "--import=a.mjs"]);
  // A process that has become one with the flags adds none: it cannot go round.
  expect(withHeapFlags(withHeapFlags(["--import=a.mjs"]))).toEqual([growing, least, most, "--import=a.mjs"]);
  // A least size of ours above the most of the operator would undo it.
  expect(withHeapFlags(["--max-semi-space-size=32"])).toEqual([growing, "--max-semi-space-size=32"]);
  expect(withHeapFlags(["--max_semi_space_size=2"])).toEqual([growing, "--max_semi_space_size=2"]);
});

test("malloc's variables are added, and the operator's stay", () => {
  const environment = withMallocEnvironment({ PATH: "/bin", MALLOC_ARENA_MAX: "4" });
  expect(environment).toEqual({
    PATH: "/bin",
    MALLOC_ARENA_MAX: "4",
    MALLOC_TRIM_THRESHOLD_: "131072",
    MALLOC_MMAP_THRESHOLD_: "131072",
  });
  expect(withMallocEnvironment(environment)).toEqual(environment);
});
