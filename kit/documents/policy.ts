/**
 * Traffic management of a customer: names, the targets that may be answered for them, and how one is chosen. What no name server could
 * decide by is refused whole.
 */
import { type CustomerId, hostname, id, type PropertyId } from "../ids.ts";
import {
  array,
  boolean,
  defaulted,
  integer,
  nullable,
  number,
  object,
  oneOf,
  optional,
  type Parsed,
  refine,
  type Schema,
  string,
} from "../schema.ts";
import { byKey, POLICY_DEPTH_MAX, type Problem, ruleAt, ruleProblem, TARGETS_MAX } from "./policy-rule.ts";
import { trafficClasses } from "./property.ts";
import { addressText, coordinates } from "./topology.ts";

const target = object({
  targetId: id(),
  /** What is handed out; a target without any names a property. */
  addresses: defaulted(array(addressText(), { max: 32, uniqueBy: (address) => address }), []),
  /** Instead of addresses: the edges, by the map, as for this property of the same customer. */
  propertyId: optional(id<PropertyId>()),
  /** Taken out by hand: it is handed out to nobody, whatever lives. */
  isEnabled: defaulted(boolean(), true),
  /** Where it stands, for `performance`; what the map has measured of the network of its first address is preferred. */
  coordinates: optional(coordinates),
});
export type TrafficTarget = Parsed<typeof target>;

const path = () =>
  string({
    max: 1_024,
    pattern: /^\/[\x21-\x7e]*$/,
    expected: 'a path in printable ASCII that begins with "/"',
  });
const port = () => integer({ min: 1, max: 65_535 });

const testFields = {
  testId: id(),
  intervalMs: defaulted(integer({ min: 1_000, max: 300_000, unit: "ms" }), 5_000),
  timeoutMs: defaulted(integer({ min: 100, max: 30_000, unit: "ms" }), 2_000),
  /** Failures in a row after which an agent holds a target for down. */
  downThreshold: defaulted(integer({ min: 1, max: 20 }), 2),
  /** Successes in a row after which it is up again. */
  okThreshold: defaulted(integer({ min: 1, max: 20 }), 2),
};
const httpFields = {
  ...testFields,
  port: optional(port()),
  /** Host, and the name that a certificate must be good for. */
  host: hostname(),
  path: defaulted(path(), "/"),
  /** Statuses that are well. */
  statuses: defaulted(array(integer({ min: 100, max: 599 }), { min: 1, max: 32 }), [200]),
  /** Must stand in the first 64 KiB of the content. */
  bodyContains: optional(string({ max: 256 })),
};

const httpTest = object({ kind: oneOf(["http"]), ...httpFields });
const httpsTest = object({ kind: oneOf(["https"]), ...httpFields });
const tcpTest = object({ kind: oneOf(["tcp"]), ...testFields, port: port() });
const dnsTest = object({
  kind: oneOf(["dns"]),
  ...testFields,
  port: defaulted(port(), 53),
  /** Asked for; well is NOERROR with a record of the type. */
  name: hostname(),
  type: defaulted(oneOf(["A", "AAAA", "NS", "SOA", "TXT", "MX"]), "A"),
});
/** A program that the operator of the agents has put there, called with the target's address; well is exit status 0. */
const scriptTest = object({ kind: oneOf(["script"]), ...testFields, script: id() });

const tests = { http: httpTest, https: httpsTest, tcp: tcpTest, dns: dnsTest, script: scriptTest };
export type LivenessTest =
  | Parsed<typeof httpTest>
  | Parsed<typeof httpsTest>
  | Parsed<typeof tcpTest>
  | Parsed<typeof dnsTest>
  | Parsed<typeof scriptTest>;

const livenessTest: Schema<LivenessTest> = byKey<LivenessTest>("kind", tests);

/** An object that each target has, with its load as a number: what agents fetch in place of a report. */
const loadFeedback = object({
  port: optional(port()),
  host: hostname(),
  path: path(),
  isHttps: defaulted(boolean(), true),
  intervalMs: defaulted(integer({ min: 1_000, max: 300_000, unit: "ms" }), 10_000),
  /** The load, in the number's own unit, above which others are sent a part. */
  loadTarget: number({ min: 1e-6, max: 1e12 }),
});
export type LoadFeedback = Parsed<typeof loadFeedback>;

const fields = object({
  policyId: id(),
  customerId: id<CustomerId>(),
  /** A withdrawn policy decides nothing: its names are what they are without it. */
  isActive: defaulted(boolean(), true),
  /** Names whose A and AAAA it decides: in a zone of the customer, a host name of the customer's property, or free in the deployment's zones. */
  names: array(hostname(), { min: 1, max: 64, uniqueBy: (name) => name }),
  ttlSeconds: defaulted(integer({ min: 1, max: 86_400, unit: "seconds" }), 30),
  trafficClass: defaulted(oneOf(trafficClasses), "interactive"),
  targets: array(target, { min: 1, max: TARGETS_MAX, uniqueBy: (one) => one.targetId }),
  rule: ruleAt(POLICY_DEPTH_MAX),
  /** Addresses in one answer; more are handed out in turn. */
  handoutLimit: defaulted(integer({ min: 1, max: 16 }), 8),
  /** When nothing lives: no address, instead of all of them. */
  isFailClosed: defaulted(boolean(), false),
  /** This share of the targets is taken for live, whatever tests say; those that have been down longest are left out first. */
  liveRatioMin: defaulted(number({ min: 0, max: 1 }), 0),
  /** A target lives when it passes all of them; without any it does. */
  tests: defaulted(array(livenessTest, { max: 4, uniqueBy: (one) => one.testId }), []),
  /** Null: nobody tells of load. */
  loadFeedback: defaulted(nullable(loadFeedback), null),
});
export type PolicyDocument = Parsed<typeof fields>;

export const policyDocument = refine(fields, problemOf);

function problemOf({
  targets,
  rule,
  isFailClosed,
  liveRatioMin,
  tests: all,
}: PolicyDocument): Problem | undefined {
  for (const [n, { addresses, propertyId }] of targets.entries())
    if (addresses.length === 0 && propertyId === undefined)
      return {
        at: ["targets", n, "addresses"],
        value: addresses,
        expected: "an address at least, or a propertyId",
      };
    else if (addresses.length > 0 && propertyId !== undefined)
      return { at: ["targets", n, "propertyId"], value: propertyId, expected: "nothing beside addresses" };
  for (const [n, { timeoutMs, intervalMs }] of all.entries())
    if (timeoutMs > intervalMs)
      return {
        at: ["tests", n, "timeoutMs"],
        value: timeoutMs,
        expected: `at most its interval, ${intervalMs} ms`,
      };
  if (isFailClosed && liveRatioMin > 0)
    return {
      at: ["liveRatioMin"],
      value: liveRatioMin,
      expected: "0 with isFailClosed, which takes nothing for live",
    };
  return ruleProblem(
    rule,
    targets.map(({ targetId }) => targetId),
  );
}
