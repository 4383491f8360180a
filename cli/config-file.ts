/** A property's file without control: `isochrone config check`, and what it would do with a request, `config try`. */
import { AccessKeys, explainedFields, explainRules, parseAbsoluteUri, isOfNoPage } from "#edge";
import { parseAddress, type PropertyDocument, propertyDocument } from "#kit";
import { createLogger, readCountries, readFileIfThere, systemClock } from "#kit/io";
import { parseYaml } from "#kit/world";
import { peerKeyFromEnvironment } from "#transport";
import { row, rulingLines } from "./ruling.ts";
import { UsageError } from "./usage.ts";

/** What control takes of one property. */
const FILE_BYTES_MAX = 1024 * 1024;

/** The property of a file; WorldError with file, line and column, or {@link UsageError}, when there is none. */
export function readPropertyFile(path: string): PropertyDocument {
  const data = readFileIfThere(path, FILE_BYTES_MAX);
  if (data === undefined) throw new UsageError(`No file ${JSON.stringify(path)}`);
  return parseYaml(data.toString("utf8"), path, "a property", (value) => propertyDocument.parse(value));
}

/** Prints that a file is valid, and what is likely not meant in it. */
export function check(path: string, isJson: boolean): void {
  const property = readPropertyFile(path);
  const warnings = warningsOf(property);
  if (isJson) {
    console.log(JSON.stringify({ isValid: true, property, warnings }, null, 2));
    return;
  }
  const { propertyId, customerId, hostnames, rules } = property;
  console.log(
    `${path}: property ${propertyId} of ${customerId} is valid (${hostnames.join(", ")}; ${rules.length} ${rules.length === 1 ? "rule" : "rules"})`,
  );
  for (const warning of warnings) console.log(`warning: ${warning}`);
}

/** Rules that mean more, or less, than whoever wrote them may think. */
function warningsOf({ rules }: PropertyDocument): readonly string[] {
  return rules.flatMap(({ match, overrideTtlSeconds, defaultTtlSeconds }, index) => {
    const { path, pathPrefix, pathGlob, extensions = [] } = match;
    const hasTtl = (overrideTtlSeconds ?? 0) > 0 || (defaultTtlSeconds ?? 0) > 0;
    const page = extensions.find((extension) => !isOfNoPage(extension));
    return hasTtl && page !== undefined && (path ?? pathPrefix ?? pathGlob) === undefined
      ? [
          `rules[${index}] gives a TTL by extension alone: where the origin answers /account/x.${page} as /account, one user's page is stored for all; name paths too`,
        ]
      : [];
  });
}

export interface TryFlags {
  readonly method?: string | undefined;
  readonly header?: readonly string[] | undefined;
  readonly client?: string | undefined;
  readonly countries?: string | undefined;
  readonly json?: boolean | undefined;
}

/** Prints what a file's rules make of a request. Exit code 1: the URL is of another property. */
export function tryRequest(path: string, url: string, flags: TryFlags): number {
  const property = readPropertyFile(path);
  const address = parseAbsoluteUri(url);
  if (address === undefined)
    throw new UsageError(`expected an http or https URL, got ${JSON.stringify(url)}`);
  const fields = explainedFields(flags.header ?? []);
  if (fields === undefined)
    throw new UsageError(
      `--header: expected "name: value", at most 32 of them, got ${JSON.stringify(flags.header)}`,
    );
  const method = flags.method ?? "GET";
  if (!/^[A-Z]{1,16}$/.test(method))
    throw new UsageError(`--method: got ${JSON.stringify(method)}, expected a method in capital letters`);
  if (flags.client !== undefined && parseAddress(flags.client) === undefined)
    throw new UsageError(`--client: got ${JSON.stringify(flags.client)}, expected an IPv4 or IPv6 address`);
  const keyHost = address.host.replace(/:[0-9]+$/, "");
  const isServed = property.isActive && property.hostnames.includes(keyHost);
  if (!isServed) {
    if (flags.json) console.log(JSON.stringify({ url, property: null }, null, 2));
    else
      console.log(
        `421: ${property.isActive ? `${keyHost} is no host name` : "inactive"} of ${property.propertyId}`,
      );
    return 1;
  }
  const explained = explainRules({
    property,
    sent: { method, ...address, fields },
    keyHost,
    clientAddress: flags.client,
    countries: flags.countries === undefined ? undefined : readCountries(flags.countries),
    checkOf: keysOf(property),
    now: systemClock.epoch(),
  });
  if (flags.json) {
    console.log(JSON.stringify({ url, property: property.propertyId, ...explained }, null, 2));
    return 0;
  }
  const first = explained.ruleIndex === null ? "" : `, rule ${explained.ruleIndex}`;
  console.log(
    [row("property", property.propertyId + first), ...rulingLines(explained, property.origins)].join("\n"),
  );
  return 0;
}

/** How tokens are judged; undefined where no property has any, or the key that theirs are sealed under is not here. */
function keysOf(property: PropertyDocument) {
  if (property.access === undefined || !process.env["ISOCHRONE_PEER_KEY"]) return undefined;
  const keys = new AccessKeys(peerKeyFromEnvironment(), createLogger({ role: "config", id: "try" }));
  keys.open(property);
  return keys.checkOf.bind(keys);
}
