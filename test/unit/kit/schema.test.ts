import { describe, expect, test } from "vitest";
import * as kit from "#kit";

const site = kit.object({
  name: kit.string({ max: 8 }),
  coordinates: kit.tuple(
    kit.number({ min: -90, max: 90 }),
    kit.number({ min: -180, max: 180 }),
    "[latitude, longitude]",
  ),
  role: kit.defaulted(kit.oneOf(["edge", "parent"]), "edge"),
  note: kit.optional(kit.string()),
  tags: kit.defaulted(kit.record(kit.string({ max: 4 }), kit.integer()), {}),
});
const sites = kit.object({ sites: kit.array(site, { min: 1, max: 2, uniqueBy: (one) => one.name }) });

function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof kit.ParseError) return error.message;
    throw error;
  }
  return "accepted";
}

describe("a right value", () => {
  test("is typed, defaults are filled in and absent options stay absent", () => {
    const parsed = sites.parse({ sites: [{ name: "fra", coordinates: [50.1, 8.7] }] });
    expect(parsed).toEqual({ sites: [{ name: "fra", coordinates: [50.1, 8.7], role: "edge", tags: {} }] });
    expect(Object.hasOwn(parsed.sites[0] ?? {}, "note")).toBe(false);
  });

  test("keeps __proto__ as an ordinary key of a record", () => {
    const parsed = kit.record(kit.string(), kit.integer()).parse(JSON.parse('{"__proto__": 3}'));
    expect(Object.keys(parsed)).toEqual(["__proto__"]);
    expect(Object.getPrototypeOf(parsed)).toBeNull();
  });
});

describe("a wrong value is refused with path, value and what was expected", () => {
  const good = { name: "fra", coordinates: [50.1, 8.7] };
  test.each<[string, unknown, string]>([
    [
      "unknown key",
      { sites: [{ ...good, nmae: 1 }] },
      "sites[0].nmae: got 1, expected no such key; known keys are name, coordinates, role, note, tags",
    ],
    [
      "missing key",
      { sites: [{ coordinates: [0, 0] }] },
      "sites[0].name: got nothing, expected a string of 1 to 8 characters",
    ],
    [
      "out of range",
      { sites: [{ ...good, coordinates: [91, 0] }] },
      "sites[0].coordinates[0]: got 91, expected a number from -90 to 90",
    ],
    [
      "NaN",
      { sites: [{ ...good, coordinates: [Number.NaN, 0] }] },
      "sites[0].coordinates[0]: got NaN, expected a number from -90 to 90",
    ],
    [
      "wrong choice",
      { sites: [{ ...good, role: "edg" }] },
      'sites[0].role: got "edg", expected one of "edge", "parent"',
    ],
    [
      "too many",
      { sites: [good, { ...good, name: "b" }, { ...good, name: "c" }] },
      "expected a list of 1 to 2 elements (got 3)",
    ],
    ["empty", { sites: [] }, "sites: got [], expected a list of 1 to 2 elements (got 0)"],
    ["duplicate", { sites: [good, good] }, 'sites[1]: got "fra", expected a name that sites[0] does not use'],
    [
      "fraction",
      { sites: [{ ...good, tags: { a: 1.5 } }] },
      "sites[0].tags.a: got 1.5, expected a whole number of at least 0",
    ],
    ["not a mapping", [], "(document): got [], expected a mapping with sites"],
    ["null for a mapping", null, "(document): got null, expected a mapping with sites"],
    [
      "inherited key does not count",
      { sites: [Object.create(good) as unknown] },
      "sites[0].name: got nothing",
    ],
  ])("%s", (_, value, message) => {
    expect(refusal(() => sites.parse(value))).toContain(message);
  });

  test("a long value is cut in the message", () => {
    expect(refusal(() => kit.integer().parse("x".repeat(10_000))).length).toBeLessThan(200);
  });

  test("either says what fitted further", () => {
    const schema = kit.either(
      kit.object({ cluster: kit.string() }),
      kit.object({ url: kit.string({ max: 3 }) }),
      "a mapping with cluster or url",
    );
    expect(refusal(() => schema.parse(7))).toBe("(document): got 7, expected a mapping with cluster or url");
    expect(refusal(() => schema.parse({ url: "long" }))).toContain("url: got");
  });
});

test("the JSON Schema describes what parse takes", () => {
  expect(site.jsonSchema()).toMatchObject({
    type: "object",
    required: ["name", "coordinates"],
    additionalProperties: false,
    properties: {
      role: { enum: ["edge", "parent"], default: "edge" },
      coordinates: { minItems: 2, maxItems: 2 },
    },
  });
});
