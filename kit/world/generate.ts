/** Large worlds from a seed: edge clusters and users where people are, and one of everything else. */
import { Random } from "#kit";
import { type World, worldSchema } from "./world.ts";

/**
 * Urban agglomerations: name, country, continent, latitude, longitude, millions of people. Figures of the United Nations' World
 * Urbanization Prospects 2018 for 2020, rounded to whole millions; places to half a degree.
 */
const METROS = [
  ["Tokyo", "JP", "asia", 35.5, 139.5, 37],
  ["Delhi", "IN", "asia", 28.5, 77, 30],
  ["Shanghai", "CN", "asia", 31, 121.5, 27],
  ["Sao Paulo", "BR", "south-america", -23.5, -46.5, 22],
  ["Mexico City", "MX", "north-america", 19.5, -99, 22],
  ["Dhaka", "BD", "asia", 23.5, 90.5, 21],
  ["Cairo", "EG", "africa", 30, 31, 21],
  ["Mumbai", "IN", "asia", 19, 73, 20],
  ["Osaka", "JP", "asia", 34.5, 135.5, 19],
  ["New York", "US", "north-america", 40.5, -74, 19],
  ["Karachi", "PK", "asia", 25, 67, 16],
  ["Buenos Aires", "AR", "south-america", -34.5, -58.5, 15],
  ["Istanbul", "TR", "europe", 41, 29, 15],
  ["Manila", "PH", "asia", 14.5, 121, 14],
  ["Lagos", "NG", "africa", 6.5, 3.5, 14],
  ["Kinshasa", "CD", "africa", -4.5, 15.5, 14],
  ["Moscow", "RU", "europe", 55.5, 37.5, 13],
  ["Los Angeles", "US", "north-america", 34, -118, 12],
  ["Paris", "FR", "europe", 49, 2.5, 11],
  ["Bogota", "CO", "south-america", 4.5, -74, 11],
  ["Jakarta", "ID", "asia", -6, 107, 11],
  ["Bangkok", "TH", "asia", 13.5, 100.5, 11],
  ["Lima", "PE", "south-america", -12, -77, 11],
  ["Seoul", "KR", "asia", 37.5, 127, 10],
  ["London", "GB", "europe", 51.5, 0, 9],
  ["Chicago", "US", "north-america", 42, -87.5, 9],
  ["Ho Chi Minh City", "VN", "asia", 11, 106.5, 9],
  ["Hong Kong", "HK", "asia", 22.5, 114, 8],
  ["Madrid", "ES", "europe", 40.5, -3.5, 7],
  ["Santiago", "CL", "south-america", -33.5, -70.5, 7],
  ["Toronto", "CA", "north-america", 43.5, -79.5, 6],
  ["Singapore", "SG", "asia", 1.5, 104, 6],
  ["Johannesburg", "ZA", "africa", -26, 28, 6],
  ["Dallas", "US", "north-america", 33, -97, 6],
  ["Miami", "US", "north-america", 26, -80, 6],
  ["Sydney", "AU", "oceania", -34, 151, 5],
  ["Nairobi", "KE", "africa", -1.5, 37, 5],
  ["Berlin", "DE", "europe", 52.5, 13.5, 4],
  ["Milan", "IT", "europe", 45.5, 9, 3],
  ["Frankfurt", "DE", "europe", 50, 8.5, 1],
] as const;
/** Sites and users lie around a city by so many degrees (standard deviation). */
const SPREAD_DEGREES = 2;
const NETWORKS_PER_CLUSTER = 2;
const SERVERS_PER_CLUSTER = 2;
/** Requests a second of all users together at the height of the day, for each cluster; and what one server can answer. */
const DEMAND_PER_CLUSTER = 1_000;
const CAPACITY_PER_SERVER = 1_000;
/** Demand of networks: lognormal, this deviation of the logarithm, and none above so many times the median: a network goes to a cluster as a whole. */
const DEMAND_SPREAD = 1;
const DEMAND_RATIO_MAX = 3;

export interface GenerateOptions {
  /** Edge clusters, 4..250. */
  readonly clusters: number;
  readonly seed: number;
}

/** Throws RangeError outside of the ranges. Demand is half of the capacity at the height of every place's day at once. */
export function generateWorld({ clusters, seed }: GenerateOptions): World {
  if (!(Number.isInteger(clusters) && clusters >= 4 && clusters <= 240))
    throw new RangeError(`A generated world has 4 to 240 edge clusters, got ${clusters}`);
  const random = new Random(seed).split("world");
  const places = random.split("clusters");
  const edges = Array.from({ length: clusters }, (_, n) => {
    // The first ones stand in the largest cities, one each, so that a small world is spread out too.
    const metro = n < METROS.length ? METROS[n % METROS.length] : drawMetro(places);
    return { continent: metro?.[2] as string, site: siteAt(metro as Metro, `edge-${n + 1}`, places) };
  });
  const networks = random.split("networks");
  const count = clusters * NETWORKS_PER_CLUSTER;
  const weights = Array.from({ length: count }, () =>
    Math.min(DEMAND_RATIO_MAX, Math.exp(networks.normal(0, DEMAND_SPREAD))),
  );
  const demand = (clusters * DEMAND_PER_CLUSTER) / weights.reduce((sum, weight) => sum + weight, 0);
  const clients = weights.map((weight, n) => {
    const metro = drawMetro(networks);
    const { city, country, coordinates } = siteAt(metro, "", networks);
    return {
      id: `network-${n + 1}`,
      city,
      country,
      continent: metro[2],
      coordinates,
      prefixes: [`10.${n >> 6}.${(n & 63) * 4}.0/22`],
      demandPerSecond: Math.round(weight * demand * 100) / 100,
      accessMs: Math.round((3 + networks.exponential(5)) * 10) / 10,
    };
  });
  const regions = Map.groupBy(edges, ({ continent }) => continent);
  return worldSchema.parse({
    name: `generated-${clusters}`,
    seed,
    regions: [
      ...[...regions].map(([id, own]) => ({
        id,
        clusters: own.map(({ site }) => ({
          ...site,
          role: "edge",
          servers: SERVERS_PER_CLUSTER,
          capacityPerSecond: CAPACITY_PER_SERVER,
        })),
      })),
      { id: "service", clusters: servicesOf(random.split("services")) },
    ],
    clients,
    customers: [
      {
        id: "customer",
        name: "Customer",
        zones: ["customer.example"],
        properties: [{ id: "site", hostnames: ["www.customer.example"], origin: { cluster: "origin" } }],
      },
    ],
  });
}

type Metro = (typeof METROS)[number];

function drawMetro(random: Random): Metro {
  const all = METROS.reduce((sum, metro) => sum + metro[5], 0);
  let left = random.uniform(0, all);
  return METROS.find((metro) => (left -= metro[5]) < 0) ?? METROS[0];
}

function siteAt([city, country, , latitude, longitude]: Metro, id: string, random: Random) {
  const degrees = (value: number, max: number): number =>
    Math.round(Math.min(max, Math.max(-max, value + random.normal(0, SPREAD_DEGREES))) * 100) / 100;
  return {
    id,
    city,
    country,
    coordinates: { latitude: degrees(latitude, 89), longitude: degrees(longitude, 180) },
  };
}

/** Two parents, two name servers, an origin, and the site of control and mapper. */
function servicesOf(random: Random) {
  const at = (city: string, id: string, role: string) => ({
    ...siteAt(METROS.find((metro) => metro[0] === city) ?? METROS[0], id, random),
    role,
  });
  return [
    at("Frankfurt", "parent-1", "parent"),
    at("Chicago", "parent-2", "parent"),
    at("London", "dns-1", "nameserver"),
    at("Singapore", "dns-2", "nameserver"),
    at("Berlin", "origin", "origin"),
    at("Milan", "control", "service"),
  ];
}
