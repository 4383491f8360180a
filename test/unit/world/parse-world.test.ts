/**
 * Goal: a wrong world is refused whole, and the one line says where. Method: a table of edits of a good world, each with
 * the text that the error must point at; line and column are computed from where that text stands.
 */
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parseWorld, WORLD_TEXT_LENGTH_MAX, WorldError } from "#kit/world";

const good = `name: tiny
seed: 7
regions:
  - id: europe
    clusters:
      - id: fra
        city: Frankfurt
        coordinates: { latitude: 50.1, longitude: 8.7 }
        role: edge
        servers: 2
      - id: dub
        city: Dublin
        coordinates: { latitude: 53.3, longitude: -6.3 }
        role: origin
clients:
  - id: berlin
    city: Berlin
    continent: europe
    coordinates: { latitude: 52.5, longitude: 13.4 }
    prefixes: [198.18.0.0/24, "2001:db8::/48"]
  - id: paris
    city: Paris
    continent: europe
    coordinates: { latitude: 48.9, longitude: 2.4 }
    prefixes: [198.18.1.0/24]
links:
  given:
    - { from: fra, to: dub, rttMs: 30 }
customers:
  - id: shop
    name: Shop
    zones: [shop.example]
    properties:
      - id: www
        hostnames: [www.shop.example]
        origin: { cluster: dub }
        content: static
        settings:
          tiering: direct
      - id: app
        hostnames: [app.shop.example]
        origin: { url: "https://origin.example:8443" }
`;

function refusal(text: string): WorldError {
  try {
    parseWorld(text, "w.yaml");
  } catch (error) {
    if (error instanceof WorldError) return error;
    throw error;
  }
  throw new Error("the world was taken");
}

/** [what is wrong, text to replace, replacement, text that the error points at (in the edited world), words of the message] */
const wrongWorlds: readonly (readonly [string, string, string, string, string])[] = [
  [
    "unknown key at the top",
    "seed: 7",
    "sede: 7",
    "sede",
    "sede: got 7, expected no such key; known keys are name, seed",
  ],
  [
    "unknown key deep down",
    "servers: 2",
    "sevrers: 2",
    "sevrers",
    "regions[0].clusters[0].sevrers: got 2, expected no such key",
  ],
  [
    "a value of another type",
    "seed: 7",
    "seed: seven",
    "seven",
    'seed: got "seven", expected a whole number',
  ],
  [
    "a latitude beyond the pole",
    "latitude: 50.1",
    "latitude: 91",
    "91",
    "regions[0].clusters[0].coordinates.latitude: got 91, expected a number from -90 to 90 (degrees)",
  ],
  ["an unknown role", "role: origin", "role: orign", "orign", 'role: got "orign", expected one of "edge"'],
  [
    "a missing key",
    "        city: Dublin\n",
    "",
    "id: dub",
    "regions[0].clusters[1].city: got nothing, expected",
  ],
  [
    "input that is delayed for an edge",
    "        servers: 2",
    "        inputDelaySeconds: 60",
    "60",
    "inputDelaySeconds: got 60, expected nothing: it is for role nameserver",
  ],
  [
    "a name server that stands in for nobody",
    "    clusters:\n      - id: fra",
    "    clusters:\n      - { id: ns, city: X, coordinates: { latitude: 0, longitude: 0 }, role: nameserver, inputDelaySeconds: 3600 }\n      - id: fra",
    "3600",
    "inputDelaySeconds: got 3600, expected nothing, or another name server",
  ],
  ["a blank section", "clients:\n  - id: berlin", "clients:\nx:\n  - id: berlin", "x:", "x: got"],
  [
    "a limit on no cluster of the world",
    "seed: 7",
    "limits: [{ name: l, clusterIds: [fra, lon], requestsPerSecondMax: 9 }]",
    "lon",
    'limits[0].clusterIds[1]: got "lon", expected a cluster\'s name',
  ],
  ["a blank value", "seed: 7", "seed:", "\nregions", "seed: got null, expected a whole number"],
  [
    "two regions of one name",
    "    clusters:\n      - id: fra",
    "    clusters: [{ id: x, city: X, coordinates: { latitude: 0, longitude: 0 }, role: edge }]\n  - id: europe\n    clusters:\n      - id: fra",
    "europe\n    clusters:\n",
    'regions[1].id: got "europe", expected a region name that regions[0].id does not use',
  ],
  [
    "two clusters of one name",
    "id: dub",
    "id: fra",
    "fra\n        city: Dublin",
    'regions[0].clusters[1].id: got "fra", expected a name',
  ],
  [
    "a client network named like a cluster",
    "id: berlin",
    "id: dub",
    "dub\n    city: Berlin",
    'clients[0].id: got "dub", expected a name (links name clusters and client networks alike) that regions[0].clusters[1].id does not use',
  ],
  [
    "a cluster named like a server",
    "id: dub",
    "id: fra-2",
    "fra\n",
    "whose server fra-2 is not named like another site",
  ],
  [
    "a name with a capital",
    "id: fra",
    "id: FRA",
    "FRA",
    'id: got "FRA", expected a name of lower-case letters',
  ],
  [
    "no edge",
    "role: edge",
    "role: relay",
    "- id: europe",
    'regions: got ["europe"], expected at least one cluster of role edge',
  ],
  [
    "a prefix with host bits",
    "198.18.1.0/24",
    "198.18.1.1/24",
    "198.18.1.1/24",
    'clients[1].prefixes[0]: got "198.18.1.1/24", expected an address prefix without host bits',
  ],
  [
    "a prefix of two client networks",
    "[198.18.1.0/24]",
    '["2001:DB8:0::/48"]',
    '"2001:DB8:0::/48"',
    'clients[1].prefixes[0]: got "2001:db8::/48", expected a prefix that clients[0].prefixes[1] does not use',
  ],
  [
    "a link to nowhere",
    "from: fra",
    "from: frb",
    "frb",
    'links.given[0].from: got "frb", expected the id of a cluster or of a client network',
  ],
  [
    "a link to itself",
    "to: dub",
    "to: fra",
    "fra, rttMs",
    'links.given[0].to: got "fra", expected the other end',
  ],
  [
    "a link between users",
    "from: fra, to: dub",
    "from: berlin, to: paris",
    "paris, rttMs",
    'links.given[0].to: got "paris", expected a cluster',
  ],
  [
    "a link that says nothing",
    ", rttMs: 30",
    "",
    "{ from: fra",
    "expected rttMs, lossRatio or bandwidthMbps",
  ],
  [
    "a link given twice, the other way round",
    "rttMs: 30 }",
    "rttMs: 30 }\n    - { from: dub, to: fra, rttMs: 31 }",
    "{ from: dub",
    'links.given[1]: got "dub to fra", expected a link that links.given[0] does not use',
  ],
  [
    "a negative time",
    "rttMs: 30",
    "rttMs: -1",
    "-1",
    "links.given[0].rttMs: got -1, expected a number from 0 to 10000 (ms)",
  ],
  [
    "more loss than packets",
    "rttMs: 30",
    "lossRatio: 1.5",
    "1.5 }",
    "lossRatio: got 1.5, expected a number from 0 to 1",
  ],
  [
    "two properties of one name",
    "id: app",
    "id: www",
    "www\n        hostnames: [app",
    'customers[0].properties[1].id: got "www", expected a property name that customers[0].properties[0].id does not use',
  ],
  [
    "a host name of two properties",
    "[app.shop.example]",
    "[www.shop.example]",
    "www.shop.example]\n        origin: { url",
    'customers[0].properties[1].hostnames[0]: got "www.shop.example", expected a host name that',
  ],
  [
    "a host name twice in one property",
    "[app.shop.example]",
    "[app.shop.example, app.shop.example]",
    "app.shop.example]",
    "customers[0].properties[1].hostnames[1]: got",
  ],
  [
    "a host name outside of the zones",
    "[app.shop.example]",
    "[app.other.example]",
    "app.other.example",
    "expected a host name inside a zone of customer shop (shop.example)",
  ],
  [
    "a host name that only ends like a zone",
    "[app.shop.example]",
    "[myshop.example]",
    "myshop.example",
    "inside a zone of customer shop",
  ],
  [
    "the name servers' zone taken by a customer",
    "seed: 7",
    "nameService: { zone: shop.example }",
    "shop.example]",
    "expected a zone that nameService.zone does not use",
  ],
  [
    "a missing origin",
    "        origin: { cluster: dub }\n",
    "",
    "id: www",
    "customers[0].properties[0].origin: got nothing, expected a mapping with cluster or url",
  ],
  [
    "an origin that does not exist",
    "cluster: dub",
    "cluster: dbu",
    "dbu",
    'customers[0].properties[0].origin.cluster: got "dbu", expected a cluster of role origin',
  ],
  [
    "an origin of another role",
    "cluster: dub",
    "cluster: fra",
    "fra }",
    "expected a cluster of role origin (that one's role is edge)",
  ],
  ["an origin URL with a path", "example:8443", "example:8443/x", '"https://origin', "origin.url: got"],
  [
    "an origin port beyond the range",
    "example:8443",
    "example:84430",
    '"https://origin',
    "customers[0].properties[1].origin.url: got",
  ],
  [
    "an origin host that is none",
    "origin.example:8443",
    "or_-.example:8443",
    '"https://or_',
    "expected a host name",
  ],
  [
    "an unknown setting",
    "tiering: direct",
    "teiring: direct",
    "teiring",
    'customers[0].properties[0].settings.teiring: got "direct", expected no such key; known keys are trafficClass',
  ],
  [
    "a wrong setting",
    "tiering: direct",
    "tiering: both",
    "both",
    'customers[0].properties[0].settings.tiering: got "both", expected one of "parent", "direct"',
  ],
  [
    "an unknown key inside a setting",
    "tiering: direct",
    "caching: { ttl: 5 }",
    "ttl: 5",
    "customers[0].properties[0].settings.caching.ttl: got 5, expected no such key",
  ],
  [
    "a rule without a match",
    "tiering: direct",
    "rules: [{ match: {}, bypass: true }]",
    "{}",
    "settings.rules[0].match: got {}, expected a condition, such as pathPrefix or extensions",
  ],
  [
    "settings that are a list",
    "          tiering: direct",
    "          - tiering",
    "- tiering",
    'settings: got ["tiering"], expected a mapping',
  ],
];

describe("a wrong world", () => {
  test("is only wrong by its edit", () => {
    expect(parseWorld(good, "w.yaml").name).toBe("tiny");
  });

  test.each(wrongWorlds)("%s", (_what, from, to, pointsAt, words) => {
    expect(good).toContain(from);
    const text = good.replace(from, () => to);
    const error = refusal(text);
    const offset = text.indexOf(pointsAt);
    expect(offset, `${pointsAt} in the edited world`).toBeGreaterThanOrEqual(0);
    const before = text.slice(0, offset);
    const line = before.split("\n").length;
    const column = before.length - before.lastIndexOf("\n");
    expect(error.message).toContain(words);
    expect([error.line, error.column]).toEqual([line, column]);
    expect(error.message.startsWith(`w.yaml:${error.line}:${error.column}: `)).toBe(true);
    expect(error.message).not.toMatch(/[\n\r]/);
  });
});

describe("YAML that is not one document", () => {
  test.each([
    ["a duplicate key", "name: a\nseed: 1\nname: b\n", 3, 1, "DUPLICATE_KEY"],
    ["a tab as indent", "name: a\nregions:\n\t- id: b\n", 3, 1, "TAB_AS_INDENT"],
    ["an open bracket at the end", "name: a\nregions: [\n", 3, 1, "got invalid YAML"],
    ["an open quote at the end", 'name: "a\n', 2, 1, "MISSING_CHAR"],
    ["an unknown tag", "name: !money 5\n", 1, 7, "TAG_RESOLVE_FAILED"],
    ["two documents", "name: a\n---\nname: b\n", 2, 1, "MULTIPLE_DOCS"],
    ["a key that is no string", "? [a]\n: b\n", 1, 3, "NON_STRING_KEY"],
    ["nothing", "", 1, 1, "got an empty document"],
    ["only a comment", "# a world\n", 2, 1, "got an empty document"],
    ["only null", "~\n", 2, 1, "got an empty document"],
  ])("%s", (_what, text, line, column, words) => {
    const error = refusal(text);
    expect(error.message).toContain(words);
    expect([error.line, error.column]).toEqual([line, column]);
    expect(error.message).not.toContain("\n");
  });

  test("every truncation of a good world is refused or is a world", () => {
    let refused = 0;
    for (let length = 0; length < good.length; length += 7) {
      try {
        parseWorld(good.slice(0, length), "w.yaml");
      } catch (error) {
        expect(error).toBeInstanceOf(WorldError);
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(100);
  });

  test("aliases that multiply are not expanded", () => {
    const bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"];
    for (let n = 1; n < 12; n++) bomb.push(`a${n}: &a${n} [${`*a${n - 1}, `.repeat(10)}]`);
    expect(refusal(bomb.join("\n")).message).toContain("cannot be expanded (Excessive alias count");
  });

  test("nesting deeper than the stack is refused", () => {
    expect(refusal(`name: ${"[".repeat(200_000)}`)).toBeInstanceOf(WorldError);
  });

  test("a text beyond the bound is not read", () => {
    expect(refusal("#".repeat(WORLD_TEXT_LENGTH_MAX + 1)).message).toContain(
      `expected at most ${WORLD_TEXT_LENGTH_MAX}`,
    );
  });

  test("__proto__ is an unknown key, not a prototype", () => {
    expect(refusal("__proto__: { name: a }\n").message).toContain("__proto__: got");
  });

  test("an alias is looked through", () => {
    const text = good.replace(
      "coordinates: { latitude: 48.9",
      "coordinates: *place\n    x: { latitude: 48.9",
    );
    expect(refusal(text).message).toContain("Unresolved alias");
    const shared = good
      .replace(
        "coordinates: { latitude: 52.5, longitude: 13.4 }",
        "coordinates: &place { latitude: 52.5, longitude: 200 }",
      )
      .replace("coordinates: { latitude: 48.9, longitude: 2.4 }", "coordinates: *place");
    const error = refusal(shared);
    expect(error.message).toContain("clients[0].coordinates.longitude: got 200");
    expect(error.line).toBe(19);
  });
});

test.each(
  readdirSync(new URL("../../../deploy/worlds/", import.meta.url)).filter((name) => name.endsWith(".yaml")),
)("deploy/worlds/%s is a world", (name) => {
  const world = parseWorld(
    readFileSync(new URL(`../../../deploy/worlds/${name}`, import.meta.url), "utf8"),
    name,
  );
  expect(world.name).toBe(name.replace(".yaml", ""));
});
