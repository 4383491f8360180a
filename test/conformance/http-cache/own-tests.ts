/**
 * What the packaged suite lacks, in its own format, so that one client and one origin serve both: targeted fields, fields of a
 * connection, refusals to serve stale. Ids begin with "own-"; kinds as there.
 */
import type { CacheTest } from "./suite.ts";

type Lines = readonly (readonly [name: string, value: string | number, isChecked?: boolean])[];

/** One answer, a pause of 3 s where `isPaused`, and the question whether the second request is answered with it. */
function reuse(
  id: string,
  name: string,
  lines: Lines,
  expected: "cached" | "not_cached",
  more: { readonly kind?: CacheTest["kind"]; readonly isPaused?: boolean } = {},
): CacheTest {
  return {
    id: `own-${id}`,
    name,
    kind: more.kind ?? "required",
    requests: [
      { response_headers: lines, setup: true, ...(more.isPaused === true && { pause_after: true }) },
      { expected_type: expected },
    ],
  };
}

const unchecked = (field: string, value: string) => [field, value, false] as const;

/** RFC 9213, for a field of any CDN and for our own. */
function targeted(field: "CDN-Cache-Control" | "Isochrone-Cache-Control"): readonly CacheTest[] {
  const of = (value: string) => unchecked(field, value);
  const short = field === "CDN-Cache-Control" ? "cdn" : "isochrone";
  const hour: Lines = [
    ["Cache-Control", "max-age=3600"],
    ["Expires", 3600],
    ["Date", 0],
  ];
  const none: Lines = [["Cache-Control", "no-store"]];
  const optimal = { kind: "optimal" } as const;
  return [
    reuse(`${short}-alone`, `2.1: ${field} alone states freshness`, [of("max-age=60")], "cached", optimal),
    reuse(`${short}-most`, "1.2.2 of RFC 9111: 2^31 seconds", [of("max-age=2147483648")], "cached", optimal),
    reuse(`${short}-beyond`, "1.2.2 of RFC 9111: beyond", [of("max-age=99999999999")], "cached", optimal),
    reuse(`${short}-extension`, "2.1: unknown members", [of("a=?0, b;c=1, max-age=60")], "cached", optimal),
    reuse(`${short}-parameters`, "2.1: parameters", [of("max-age=60;a=1;b")], "cached", optimal),
    reuse(`${short}-zero`, "2.1: no freshness", [of("max-age=0"), ...hour], "not_cached"),
    reuse(`${short}-age`, "Age counts", [["Age", "120"], of("max-age=60"), ["Date", 0]], "not_cached"),
    reuse(
      `${short}-expires`,
      "2.2: no Expires",
      [of("max-age=60"), ["Expires", -99], ["Date", 0]],
      "cached",
      optimal,
    ),
    reuse(
      `${short}-bad-expires`,
      "2.2: no bad Expires",
      [of("max-age=60"), unchecked("Expires", "0")],
      "cached",
      optimal,
    ),
    reuse(
      `${short}-longer`,
      "2.2: before a shorter Cache-Control",
      [of("max-age=60"), ["Cache-Control", "max-age=1"]],
      "cached",
      {
        ...optimal,
        isPaused: true,
      },
    ),
    reuse(
      `${short}-shorter`,
      "2.2: before a longer Cache-Control",
      [of("max-age=1"), ...hour],
      "not_cached",
      {
        isPaused: true,
      },
    ),
    reuse(`${short}-private`, "2.2: private", [of("private"), ...hour], "not_cached"),
    reuse(`${short}-no-cache`, "2.2: no-cache", [of("no-cache"), ...hour], "not_cached"),
    reuse(`${short}-no-store`, "2.2: no-store", [of("no-store"), ...hour], "not_cached"),
    reuse(`${short}-over-no-store`, "2.2: before no-store", [of("max-age=60"), ...none], "cached"),
    reuse(
      `${short}-no-dictionary`,
      "2.1: what does not parse is ignored",
      [of("max-age=60, &&"), ...none],
      "not_cached",
    ),
    reuse(`${short}-blank`, "2.1: a blank at the equals sign", [of("max-age =60"), ...none], "not_cached"),
    reuse(`${short}-case`, "2.1: keys are of lower case", [of("Max-Age=60"), ...none], "not_cached"),
    reuse(`${short}-string`, "2.1: a string is no integer", [of('max-age="60"'), ...none], "not_cached"),
    reuse(
      `${short}-two-lines`,
      "2.1: lines are one dictionary, the last key wins",
      [of("max-age=0"), of("max-age=60")],
      "cached",
      optimal,
    ),
  ];
}

/** RFC 9110, section 7.6.1: what Connection names goes no further, nor into the store. */
const connection: readonly CacheTest[] = [
  {
    id: "own-connection-fields",
    name: "Fields that Connection names are not stored, in whatever case and line they are named",
    kind: "required",
    requests: [
      {
        response_headers: [
          unchecked("Connection", "Foo"),
          unchecked("Connection", "BAR, baz"),
          unchecked("Foo", "1"),
          unchecked("Bar", "2"),
          unchecked("Baz", "3"),
          ["Kept", "4"],
          ["Cache-Control", "max-age=3600"],
        ],
        setup: true,
      },
      {
        expected_type: "cached",
        expected_response_headers: [["Kept", "4"]],
        expected_response_headers_missing: ["Foo", "Bar", "Baz"],
        setup_tests: ["expected_type"],
      },
    ],
  },
  {
    id: "own-connection-important",
    name: "Connection does not take Cache-Control away",
    kind: "required",
    requests: [
      {
        response_headers: [
          unchecked("Connection", "cache-control"),
          ["Cache-Control", "no-store"],
          ["Last-Modified", -99_999],
          ["Date", 0],
        ],
        setup: true,
      },
      { expected_type: "not_cached" },
    ],
  },
];

/**
 * RFC 9111, section 4.2.4: stale answers where nobody answers. The packaged tests of refusals ask for an answer that the origin has
 * not given; here they ask for one without the fields of the stored one.
 */
const forbidden = ["must-revalidate", "proxy-revalidate", "no-cache", "s-maxage=1"].map(
  (directive): CacheTest => ({
    id: `own-stale-close-${directive}`,
    name: `5.2.2: ${directive} forbids to answer with what is stale when the origin closes the connection`,
    kind: "required",
    requests: [
      {
        response_headers: [
          ["Cache-Control", `max-age=1, ${directive}`],
          ["Stored", "1"],
        ],
        setup: true,
        pause_after: true,
      },
      {
        disconnect: true,
        expected_status: 502,
        check_body: false,
        expected_response_headers_missing: ["Stored"],
      },
    ],
  }),
);
const stale: readonly CacheTest[] = [
  ...forbidden,
  {
    id: "own-stale-while-revalidate",
    name: "RFC 5861, 3: within the window at once",
    kind: "optimal",
    requests: [
      {
        response_headers: [["Cache-Control", "max-age=1, stale-while-revalidate=60"]],
        setup: true,
        pause_after: true,
      },
      { expected_type: "cached" },
    ],
  },
  {
    id: "own-stale-while-revalidate-window",
    name: "RFC 5861, 3: not beyond the window",
    kind: "required",
    requests: [
      {
        response_headers: [["Cache-Control", "max-age=1, stale-while-revalidate=1"]],
        setup: true,
        pause_after: true,
      },
      { expected_type: "not_cached" },
    ],
  },
];

/** A part of ten bytes, asked for by its own range, and requests after it. */
function part(
  id: string,
  name: string,
  then: readonly object[],
  {
    range = "bytes=0-4",
    lines = [],
    kind = "required",
  }: { range?: string; lines?: Lines; kind?: CacheTest["kind"] } = {},
): CacheTest {
  const first = Number(/[0-9]+/.exec(range)?.[0]);
  return {
    id: `own-part-${id}`,
    name,
    kind,
    requests: [
      {
        request_headers: [["Range", range]],
        response_status: [206, "Partial Content"],
        response_headers: [
          ["Cache-Control", "max-age=3600"],
          ["Content-Range", `bytes ${first}-${first + 4}/10`],
          ...lines,
        ],
        response_body: "01234",
        setup: true,
      },
      ...then,
    ],
  };
}

const ask = (range: string, ...more: readonly (readonly [string, string])[]) => ({
  request_headers: [["Range", range], ...more],
});
/** The same of an answer of the origin to it. */
const answered = (contentRange: string, body: string) => ({
  response_status: [206, "Partial Content"],
  response_headers: [
    ["Cache-Control", "max-age=3600"],
    ["Content-Range", contentRange],
  ],
  response_body: body,
  expected_type: "not_cached",
});
const cached = (body: string, contentRange: string) => ({
  expected_type: "cached",
  expected_status: 206,
  expected_response_text: body,
  expected_response_headers: [["Content-Range", contentRange]],
});
const strong: Lines = [["ETag", '"a"']];

const whole = {
  response_headers: [["Cache-Control", "max-age=3600"]],
  response_body: "abcdefghij",
  expected_type: "not_cached",
};

/** RFC 9111, sections 3.3 and 3.4: one part that nothing ties to another. */
const parts: readonly CacheTest[] = [
  part("within", "3.3: a range within", [{ ...ask("bytes=1-3"), ...cached("123", "bytes 1-3/10") }], {
    kind: "optimal",
  }),
  part("outside", "3.3: a range that is not all within", [
    { ...ask("bytes=3-7"), ...answered("bytes 3-7/10", "34567") },
  ]),
  part("head", "3.3: not for HEAD", [{ request_method: "HEAD", expected_type: "not_cached" }]),
  part("whole", "3.3: not for a request without a range, whose answer takes its place", [
    whole,
    { ...ask("bytes=1-3"), ...cached("bcd", "bytes 1-3/10") },
    { ...ask("bytes=-1"), ...cached("j", "bytes 9-9/10") },
  ]),
  part(
    "conditional",
    "4.3.2: 304 for a range within",
    [{ ...ask("bytes=1-3", ["If-None-Match", 'W/"a"']), expected_type: "cached", expected_status: 304 }],
    { lines: [["ETag", 'W/"a"']], kind: "optimal" },
  ),
  part(
    "if-range",
    "RFC 9110, 13.1.5: If-Range holds",
    [{ ...ask("bytes=3-4", ["If-Range", '"a"']), ...cached("12", "bytes 3-4/10") }],
    { range: "bytes=2-6", lines: strong, kind: "optimal" },
  ),
  part(
    "if-range-other",
    "RFC 9110, 13.1.5: If-Range of another version",
    [{ ...ask("bytes=3-4", ["If-Range", '"b"']), ...whole }],
    { range: "bytes=2-6", lines: strong },
  ),
  part(
    "vary",
    "4.1: of another variant",
    [{ ...ask("bytes=1-3", ["Foo", "2"]), ...answered("bytes 1-3/10", "123") }],
    { lines: [unchecked("Vary", "Foo")] },
  ),
  part("not-combined", "3.4: two parts without a validator make no third", [
    { ...ask("bytes=5-9"), ...answered("bytes 5-9/10", "56789") },
    { ...ask("bytes=3-6"), ...answered("bytes 3-6/10", "3456") },
  ]),
];

export const ownTests: readonly CacheTest[] = [
  ...targeted("CDN-Cache-Control"),
  ...targeted("Isochrone-Cache-Control"),
  ...connection,
  ...stale,
  ...parts,
];
