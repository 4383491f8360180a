/** Maps, liveness and addresses that meet at their edges. */
import * as fc from "fast-check";
import {
  addressBits,
  addressFromBytes,
  formatAddress,
  formatPrefix,
  type MapSnapshot,
  maskAddress,
} from "#kit";
import { snapshotFrom } from "../../tools/map-snapshot.ts";
import { ranking } from "../../unit/mapping-dns/fixture.ts";

const orders = [
  ["fra", "nyc", "sin"],
  ["nyc", "sin"],
  ["sin", "fra"],
  ["gone", "fra"],
] as const;
const order = fc.constantFrom(...orders).map((ids) => ranking(...ids));

/** Few distinct octets, so that prefixes nest, touch and repeat, up to the very ends of the family. */
const octet = fc.constantFrom(0, 1, 2, 127, 128, 254, 255);
export const address = fc.oneof(
  fc
    .array(octet, { minLength: 4, maxLength: 4 })
    .map((octets) => addressFromBytes(4, Uint8Array.from(octets))),
  fc
    .array(octet, { minLength: 16, maxLength: 16 })
    .map((octets) => addressFromBytes(6, Uint8Array.from(octets))),
);
const prefix = fc
  .tuple(address, fc.oneof(fc.nat({ max: 10 }), fc.nat({ max: 128 })))
  .map(([of, length]) => ({ of, length: Math.min(length, addressBits(of.family)) }))
  .map(({ of, length }) => formatPrefix({ address: maskAddress(of, length), prefixLength: length }));

/** Of one resolver; of the networks some are not in the map. */
const scopes = fc.uniqueArray(
  fc.tuple(prefix, fc.nat({ max: 12 })).map(([text, n]) => ({ prefix: text, clientNetworkId: `n${n}` })),
  { maxLength: 6, selector: (one) => one.prefix },
);

export const map = fc
  .record({
    networks: fc.uniqueArray(fc.tuple(prefix, order), {
      minLength: 4,
      maxLength: 14,
      selector: ([text]) => text,
    }),
    resolvers: fc.uniqueArray(fc.tuple(address, order, scopes), {
      maxLength: 4,
      selector: ([of]) => formatAddress(of),
    }),
    fallback: order,
    suspended: fc.constantFrom({}, { fra: true }, { nyc: true, sin: true }),
  })
  .map(
    ({ networks, resolvers, fallback, suspended }): MapSnapshot =>
      snapshotFrom({
        clientNetworks: networks.map(([text, clusters], n) => ({
          clientNetworkId: `n${n}`,
          prefixes: [text],
          clusters,
        })),
        resolvers: resolvers.map(([of, clusters, own]) => ({
          address: formatAddress(of),
          clusters,
          ...(own.length > 0 && { scopes: own }),
          weight: 1,
          clientNetworks: 1,
        })),
        fallback,
        suspended,
      }),
  );
export const down = fc.subarray(["fra-1", "fra-2", "nyc-1", "nyc-2", "sin-1", "sin-2"]);
