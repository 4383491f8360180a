import { epochMs, type IpPrefix, parseAddress, parsePrefix } from "#kit";
import {
  AddressRangeTable,
  BlockDemand,
  type CutInput,
  type CutSettings,
  cutClientNetworks,
  MeasuredBlocks,
  type NetworkSets,
  networkRecords,
  type Place,
  RouteTable,
  runsOfRanges,
} from "#mapping";

export const prefix = (text: string): IpPrefix => {
  const parsed = parsePrefix(text);
  if (parsed === undefined) throw new Error(`no prefix: ${text}`);
  return parsed;
};

/** `[prefix, path]`: one route of one peer. */
export type Route = readonly [prefix: string, path: readonly number[], peer?: string];

export function routesOf(routes: readonly Route[]): RouteTable {
  const table = new RouteTable();
  for (const [text, asPath, peer = "192.0.2.1"] of routes)
    table.route({
      prefix: prefix(text),
      asPath,
      originAs: asPath.slice(-1),
      peerAs: 64_500,
      peerAddress: peer,
      pathId: null,
      at: epochMs(0),
    });
  return table;
}

export const cities = {
  berlin: { country: "DE", city: "Berlin", coordinates: { latitude: 52.5, longitude: 13.4 } },
  potsdam: { country: "DE", city: "Potsdam", coordinates: { latitude: 52.4, longitude: 13.1 } },
  munich: { country: "DE", city: "Munich", coordinates: { latitude: 48.1, longitude: 11.6 } },
  north: { country: "SE", city: "North", coordinates: { latitude: 64, longitude: 20 } },
  norther: { country: "SE", city: "Norther", coordinates: { latitude: 64, longitude: 20.9 } },
  boston: { country: "US", city: "Boston", coordinates: { latitude: 42.4, longitude: -71 } },
} satisfies Record<string, Place>;
export type City = keyof typeof cities;

/** `[first, last, city]`, ascending. */
export function placesOf(ranges: readonly (readonly [string, string, City])[]): CutInput["places"] {
  const table = new AddressRangeTable<Place>((place) => `${place.city}`, 1_000);
  for (const [first, last, city] of ranges) {
    const ends = [parseAddress(first), parseAddress(last)] as const;
    if (ends[0] === undefined || ends[1] === undefined) throw new Error(`no range: ${first} ${last}`);
    const refusal = table.add(ends[0], ends[1], cities[city]);
    if (refusal !== undefined) throw new Error(`${first}: ${refusal}`);
  }
  return runsOfRanges(table);
}

export function demandOf(blocks: Readonly<Record<string, number>>): BlockDemand {
  const demand = new BlockDemand();
  for (const [text, perSecond] of Object.entries(blocks)) demand.add(prefix(text), perSecond);
  return demand;
}

export function measuredOf(
  blocks: Readonly<Record<string, Readonly<Record<string, number>>>>,
): CutInput["measured"] {
  const measured = new MeasuredBlocks();
  for (const [text, sites] of Object.entries(blocks))
    measured.add(
      prefix(text),
      Object.entries(sites).map(([clusterId, rttMs]) => ({ clusterId, rttMs })),
    );
  return measured.build();
}

export interface Cut {
  readonly routes: readonly Route[];
  readonly places?: CutInput["places"];
  readonly measured?: CutInput["measured"];
  readonly demand?: BlockDemand;
}

export function cut(
  { routes, places, measured, demand }: Cut,
  settings: Partial<CutSettings> = {},
): NetworkSets {
  return cutClientNetworks(
    {
      routes: routesOf(routes).build(),
      places: places ?? null,
      autonomousSystems: null,
      measured: measured ?? null,
      demand: demand ?? null,
    },
    settings,
  );
}

/** The prefixes of each set. */
export function prefixesOf(sets: NetworkSets): string[][] {
  const names = Array.from({ length: sets.count }, (_, n) => `n${n}` as never);
  return [...networkRecords(sets, names)].map((record) => [...record.prefixes]);
}
