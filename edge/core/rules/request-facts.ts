/** What rules ask of a request: each thing read when it is first asked for, and once. */
import {
  countryOf,
  type CountryTable,
  type DeviceClass,
  type IpAddress,
  parseAddress,
  UNKNOWN_COUNTRY,
} from "#kit";
import { parseAbsoluteUri } from "../cache-key.ts";
import { endToEndFields, type Fields, fieldLines, fieldValue } from "../headers.ts";
import { deviceClassOf } from "./device.ts";

export interface RuleRequest {
  readonly method: string;
  /** In lower case, without port where keys have none. */
  readonly host: string;
  readonly target: string;
  readonly fields: Fields;
  /** Undefined: not known, as behind a server of ours. */
  readonly clientAddress?: string | undefined;
  /** Undefined: of no client anything is known. */
  readonly countries?: CountryTable | undefined;
}

/** The path of a target, without its query. */
export function pathOf(target: string): string {
  const query = target.indexOf("?");
  return query === -1 ? target : target.slice(0, query);
}

/** The extension of a path's last segment in lower case, without dot; "" when it has none. */
export function extensionOf(path: string): string {
  const segment = path.slice(path.lastIndexOf("/") + 1);
  const dot = segment.lastIndexOf(".");
  return dot <= 0 ? "" : segment.slice(dot + 1).toLowerCase();
}

/**
 * The path as origins take it (RFC 3986, section 6.2.2): unreserved characters decoded, dot segments resolved, empty segments
 * dropped, so that no spelling of a path gets round a rule that denies it.
 */
export function normalPath(path: string): string {
  if (!/%|\/\.|\/\//.test(path)) return path;
  const decoded = path.replace(/%([0-9A-Fa-f]{2})/g, (text, hex: string) => {
    const char = String.fromCharCode(Number.parseInt(hex, 16));
    return /[A-Za-z0-9._~-]/.test(char) ? char : text.toUpperCase();
  });
  const segments: string[] = [];
  const parts = decoded.split("/").slice(1);
  for (const part of parts) {
    if (part === "..") segments.pop();
    else if (part !== "." && part !== "") segments.push(part);
  }
  const last = parts.at(-1);
  const endsInSlash = segments.length > 0 && (last === "" || last === "." || last === "..");
  return `/${segments.join("/")}${endsInSlash ? "/" : ""}`;
}

const HIDDEN_PARENT = /(?:\/|%2F|%5C|\\)\.\.(?:%2F|%5C|\\|;)|(?:%2F|%5C|\\)\.\.(?:\/|$)/i;

/**
 * Whether a normal path has ".." between what only some servers take for separators: encoded slashes, backslashes, path parameters.
 * The origin might see another path in it than rules do.
 */
export const hidesParent = (path: string): boolean => path.includes("..") && HIDDEN_PARENT.test(path);

/**
 * The path as the laxest of origins takes a normal one: encoded slashes and backslashes part segments, path parameters
 * (RFC 3986, section 3.3) are no part of them.
 */
export function laxPath(path: string): string {
  if (!/%2F|%5C|[\\;]/i.test(path)) return path;
  return normalPath(path.replaceAll(/%2F|%5C|\\/gi, "/").replaceAll(/;[^/]*/g, ""));
}

type Pairs = ReadonlyMap<string, readonly string[]>;

function pairsOf(parts: readonly string[]): Pairs {
  const pairs = new Map<string, string[]>();
  for (const part of parts) {
    const equals = part.indexOf("=");
    const name = equals === -1 ? part : part.slice(0, equals);
    const value = equals === -1 ? "" : part.slice(equals + 1);
    const values = pairs.get(name);
    if (values === undefined) pairs.set(name, [value]);
    else values.push(value);
  }
  return pairs;
}

export class RequestFacts {
  readonly method: string;
  readonly host: string;
  readonly path: string;
  readonly #request: RuleRequest;
  #extension: string | undefined;
  #fields: Fields | undefined;
  /** Null: there is none. */
  readonly #values = new Map<string, string | null>();
  #cookies: Pairs | undefined;
  #query: Pairs | undefined;
  #device: DeviceClass | undefined;
  #address: IpAddress | null | undefined;

  constructor(request: RuleRequest) {
    this.#request = request;
    this.method = request.method;
    this.host = request.host;
    this.path = normalPath(pathOf(request.target));
  }

  get extension(): string {
    return (this.#extension ??= extensionOf(this.path));
  }

  /** Values of a field as the next server will see it: what Connection takes off is not there. `name` in lower case. */
  header(name: string): string | undefined {
    const known = this.#values.get(name);
    if (known !== undefined) return known ?? undefined;
    this.#fields ??= endToEndFields(this.#request.fields);
    const value = fieldValue(this.#fields, name);
    this.#values.set(name, value ?? null);
    return value;
  }

  get cookies(): Pairs {
    this.#fields ??= endToEndFields(this.#request.fields);
    return (this.#cookies ??= pairsOf(
      fieldLines(this.#fields, "cookie").flatMap((line) => line.split(";").map((part) => part.trim())),
    ));
  }

  /** Parameters as they were sent, not decoded. */
  get query(): Pairs {
    const mark = this.#request.target.indexOf("?");
    return (this.#query ??=
      mark === -1 ? new Map() : pairsOf(this.#request.target.slice(mark + 1).split("&")));
  }

  get device(): DeviceClass {
    return (this.#device ??= deviceClassOf(this.header("user-agent")));
  }

  /** Host of Referer, without port; "" for what names none. Undefined: there is no Referer. */
  get referrer(): string | undefined {
    const value = this.header("referer");
    return value === undefined || value === ""
      ? undefined
      : (parseAbsoluteUri(value)?.host.replace(/:[0-9]+$/, "") ?? "");
  }

  get country(): string {
    const { address } = this;
    return address === null ? UNKNOWN_COUNTRY : countryOf(this.#request.countries, address);
  }

  /** Null: not known. */
  get address(): IpAddress | null {
    this.#address ??=
      parseAddress(this.#request.clientAddress?.replace(/^::ffff:(?=[0-9.]+$)/i, "") ?? "") ?? null;
    return this.#address;
  }
}
