/**
 * What the origins hold: objects with a version that grows when their content changes, and what the origin says about their
 * caching. The truth that answers are compared with.
 */
import type { PropertyDocument, Random } from "#kit";

export interface CatalogObject {
  readonly propertyId: string;
  readonly host: string;
  readonly target: string;
  readonly tag: string;
  /** The Cache-Control that the origin states; undefined: none. */
  readonly cacheControl: string | undefined;
  /** max-age of it, seconds. */
  readonly maxAgeSeconds: number | undefined;
  /** stale-while-revalidate of it, seconds. */
  readonly staleSeconds: number;
  /** Of the content, from 1. */
  version: number;
  /** A hard purge that every server has acknowledged: when, and the version that was new then. */
  purged: { readonly at: number; readonly version: number } | undefined;
}

/** Content as it travels: which version, and when an origin last vouched for it. */
export interface Content {
  readonly object: CatalogObject;
  readonly version: number;
  readonly vouchedAt: number;
}

type Cacheability = Pick<CatalogObject, "cacheControl" | "maxAgeSeconds" | "staleSeconds">;

const aged = (seconds: number, stale = 0): Cacheability => ({
  cacheControl: `max-age=${seconds}${stale > 0 ? `, stale-while-revalidate=${stale}` : ""}`,
  maxAgeSeconds: seconds,
  staleSeconds: stale,
});

/** In turn: short, long, stale-while-revalidate, a playlist, nothing stated, never to be stored. */
const cacheabilities: readonly Cacheability[] = [
  aged(5),
  aged(60),
  aged(10, 5),
  aged(1),
  aged(20),
  { cacheControl: undefined, maxAgeSeconds: undefined, staleSeconds: 0 },
  aged(30, 10),
  { cacheControl: "no-store", maxAgeSeconds: undefined, staleSeconds: 0 },
];

export class Catalog {
  readonly #byProperty = new Map<string, readonly CatalogObject[]>();
  readonly #byUrl = new Map<string, CatalogObject>();

  constructor(properties: readonly PropertyDocument[], objectsPerProperty: number) {
    for (const { propertyId, hostnames } of properties) {
      const host = hostnames[0] ?? "";
      const objects = Array.from({ length: objectsPerProperty }, (_, n): CatalogObject => {
        const target = n === 0 ? "/index.html" : n % 3 === 0 ? `/assets/${n}.js` : `/files/${n}`;
        const cacheability = cacheabilities[n % cacheabilities.length] as Cacheability;
        return {
          propertyId,
          host,
          target,
          tag: `object-${n}`,
          ...cacheability,
          version: 1,
          purged: undefined,
        };
      });
      this.#byProperty.set(propertyId, objects);
      for (const object of objects) this.#byUrl.set(`${host}${object.target}`, object);
    }
  }

  find(host: string, target: string): CatalogObject | undefined {
    return this.#byUrl.get(`${host}${target}`);
  }
  of(propertyId: string): readonly CatalogObject[] {
    return this.#byProperty.get(propertyId) ?? [];
  }
  /** Small numbers are popular: the square of a uniform draw. */
  draw(propertyId: string, random: Random): CatalogObject | undefined {
    const objects = this.of(propertyId);
    const share = random.float();
    return objects[Math.floor(share * share * objects.length)];
  }
}
