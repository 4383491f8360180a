/**
 * Where the anchors of RIPE Atlas are and in whose network: a page of `/api/v2/anchors` (https://atlas.ripe.net/docs/apis/). The
 * places are what their hosts say.
 */
import { ParseError } from "#kit";
import { AS_NUMBER_MAX } from "./bgp.ts";
import { addressAt, listAt, objectAt, wholeAt } from "./json-fields.ts";
import { JsonReader } from "./json-reader.ts";
import { coordinatesOf, countryOf, nameOf, type Place } from "./places.ts";
import { ReadTally } from "./tally.ts";

export interface AtlasAnchor extends Place {
  /** As `probeId` in results. */
  readonly probeId: number;
  /** Canonical texts; null: it has none of the family. */
  readonly ipv4: string | null;
  readonly ipv6: string | null;
  readonly ipv4As: number | null;
  readonly ipv6As: number | null;
  readonly isDisabled: boolean;
}

const ID_MAX = 0x7fff_ffff;

/** @throws ParseError with path, value and expectation */
export function parseAtlasAnchor(value: unknown): AtlasAnchor {
  const of = objectAt(value, []);
  const country = countryOf(of["country"]);
  if (country === undefined) throw new ParseError(["country"], of["country"], "two capital letters");
  const isDisabled = of["is_disabled"];
  if (typeof isDisabled !== "boolean") throw new ParseError(["is_disabled"], isDisabled, "true or false");
  const asAt = (name: string): number | null =>
    of[name] === null || of[name] === undefined ? null : wholeAt(of, name, 0, AS_NUMBER_MAX);
  return {
    probeId: wholeAt(of, "probe", 1, ID_MAX),
    ipv4: addressAt(of, "ip_v4", [], 4),
    ipv6: addressAt(of, "ip_v6", [], 6),
    ipv4As: asAt("as_v4"),
    ipv6As: asAt("as_v6"),
    country,
    city: nameOf(of["city"]),
    coordinates: pointOf(of["geometry"]),
    isDisabled,
  };
}

/** GeoJSON (RFC 7946 section 3.1.1): longitude first. */
function pointOf(value: unknown): AtlasAnchor["coordinates"] {
  if (value === null || value === undefined) return null;
  const [longitude, latitude] = listAt(
    objectAt(value, ["geometry"])["coordinates"],
    ["geometry", "coordinates"],
    3,
  );
  const point = coordinatesOf(latitude, longitude);
  if (point === undefined || point === null)
    throw new ParseError(
      ["geometry", "coordinates"],
      [longitude, latitude],
      "degrees of longitude and latitude",
    );
  return point;
}

/** The API gives 500 of a page. */
const ANCHORS_MAX = 10_000;
const PAGE_CHARACTERS_MAX = 8_388_608;

/** Reads pages, one a line; an anchor that is wrong is skipped and counted. */
export class AtlasAnchorReader extends JsonReader<readonly unknown[]> {
  /** Counts anchors; `tally` counts pages. */
  readonly anchorTally = new ReadTally<"refused">();

  constructor(onAnchor: (anchor: AtlasAnchor) => void) {
    let page = 0;
    super(
      (value) => listAt(objectAt(value, [])["results"], ["results"], ANCHORS_MAX),
      PAGE_CHARACTERS_MAX,
      (anchors) => {
        page++;
        for (const [index, value] of anchors.entries()) {
          let anchor: AtlasAnchor;
          try {
            anchor = parseAtlasAnchor(value);
          } catch (error) {
            if (!(error instanceof ParseError)) throw error;
            this.anchorTally.skip("refused", `page ${page}, anchor ${index + 1}`, error.message);
            continue;
          }
          this.anchorTally.take();
          onAnchor(anchor);
        }
      },
    );
  }
}
