/** The parameters of SVCB and HTTPS records as text and as octets (RFC 9460 section 2 and appendix A; `dohpath` RFC 9461). */
import { fromBase64, toBase64 } from "../base64.ts";
import { addressFromBytes, addressToBytes, formatAddress, parseAddress } from "../ip.ts";
import { octetsOf, quoted, type Token, ZoneTextError } from "./zone-text.ts";

const keys = [
  "mandatory",
  "alpn",
  "no-default-alpn",
  "port",
  "ipv4hint",
  "ech",
  "ipv6hint",
  "dohpath",
] as const;
const [MANDATORY, ALPN, NO_DEFAULT_ALPN] = [0, 1, 2];
const COMMA = 0x2c;
const BACKSLASH = 0x5c;

/** Throws {@link ZoneTextError}. */
export function readParams(tokens: readonly Token[]): Uint8Array {
  const values = new Map<number, Uint8Array>();
  for (const token of tokens) {
    const { raw } = token;
    const equals = raw.indexOf("=");
    const name = equals < 0 ? raw : raw.slice(0, equals);
    const key = keyOf(name);
    if (key === undefined)
      throw new ZoneTextError(token, name, `a parameter: ${keys.join(", ")}, or key0 to key65534`);
    if (values.has(key)) throw new ZoneTextError(token, name, "each parameter once");
    const text = { ...token, raw: equals < 0 ? "" : raw.slice(equals + 1) };
    const octets = octetsOf(text);
    const value = octets.length > 0xffff ? undefined : valueOf(key, octets);
    if (value === undefined || value.length > 0xffff)
      throw new ZoneTextError(token, raw, `a value of ${keyText(key)} (RFC 9460)`);
    values.set(key, value);
  }
  const bytes: number[] = [];
  for (const [key, value] of [...values].sort(([a], [b]) => a - b))
    bytes.push(key >> 8, key & 255, value.length >> 8, value.length & 255, ...value);
  const rdata = Uint8Array.from(bytes);
  if (paramsText(rdata) === undefined)
    throw new ZoneTextError(
      tokens[0] as Token,
      tokens.map((token) => token.raw).join(" "),
      "that mandatory names parameters that stand there, and no-default-alpn stands beside alpn (RFC 9460)",
    );
  return rdata;
}

function keyOf(name: string): number | undefined {
  const known = keys.indexOf(name as (typeof keys)[number]);
  if (known >= 0) return known;
  const generic = /^key(0|[1-9]\d{0,4})$/.exec(name)?.[1];
  return generic !== undefined && Number(generic) < 0xffff ? Number(generic) : undefined;
}

function keyText(key: number): string {
  return keys[key] ?? `key${key}`;
}

function valueOf(key: number, octets: Uint8Array): Uint8Array | undefined {
  const text = String.fromCharCode(...octets);
  switch (keys[key]) {
    case "mandatory": {
      const named = text.split(",").map(keyOf);
      if (named.some((one) => one === undefined)) return undefined;
      const sorted = (named as number[]).sort((a, b) => a - b);
      return Uint8Array.from(sorted.flatMap((one) => [one >> 8, one & 255]));
    }
    case "alpn": {
      const items = listOf(octets);
      if (items.some((item) => item.length === 0 || item.length > 255)) return undefined;
      return Uint8Array.from(items.flatMap((item) => [item.length, ...item]));
    }
    case "no-default-alpn":
      return octets.length === 0 ? octets : undefined;
    case "port": {
      const port = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
      return port <= 0xffff ? Uint8Array.of(port >> 8, port) : undefined;
    }
    case "ipv4hint":
    case "ipv6hint": {
      const family = keys[key] === "ipv4hint" ? 4 : 6;
      const addresses = text.split(",").map(parseAddress);
      if (addresses.some((one) => one?.family !== family)) return undefined;
      return Uint8Array.from(addresses.flatMap((one) => (one === undefined ? [] : [...addressToBytes(one)])));
    }
    case "ech":
      return text === "" ? undefined : fromBase64(text);
    case "dohpath":
      return octets.length === 0 ? undefined : octets;
    case undefined:
      return octets;
  }
}

/** Appendix A.1: items parted by commas; a backslash makes a comma or a backslash one of the item's own. */
function listOf(octets: Uint8Array): number[][] {
  const items: number[][] = [[]];
  for (let at = 0; at < octets.length; at++) {
    const octet = octets[at] as number;
    const following = octets[at + 1];
    if (octet === COMMA) items.push([]);
    else if (octet === BACKSLASH && (following === COMMA || following === BACKSLASH)) {
      (items.at(-1) as number[]).push(following);
      at++;
    } else (items.at(-1) as number[]).push(octet);
  }
  return items;
}

/** Undefined when the octets are no parameters: not in order of their keys, or against a rule of RFC 9460. */
export function paramsText(rdata: Uint8Array): string | undefined {
  const words: string[] = [];
  const present = new Map<number, Uint8Array>();
  let last = -1;
  for (let at = 0; at < rdata.length; ) {
    if (at + 4 > rdata.length) return undefined;
    const key = ((rdata[at] as number) << 8) | (rdata[at + 1] as number);
    const next = at + 4 + (((rdata[at + 2] as number) << 8) | (rdata[at + 3] as number));
    if (key <= last || key === 0xffff || next > rdata.length) return undefined;
    const value = rdata.subarray(at + 4, next);
    const text = valueText(key, value);
    if (text === undefined) return undefined;
    present.set(key, value);
    words.push(text === "" ? keyText(key) : `${keyText(key)}=${text}`);
    last = key;
    at = next;
  }
  const mandatory = present.get(MANDATORY) ?? new Uint8Array();
  let before = MANDATORY;
  for (let at = 0; at < mandatory.length; at += 2) {
    const named = ((mandatory[at] as number) << 8) | (mandatory[at + 1] as number);
    // Section 8: in order, each once, without itself, and all of them there.
    if (named <= before || !present.has(named)) return undefined;
    before = named;
  }
  if (present.has(NO_DEFAULT_ALPN) && !present.has(ALPN)) return undefined;
  return words.join(" ");
}

function valueText(key: number, value: Uint8Array): string | undefined {
  switch (keys[key]) {
    case "mandatory":
      if (value.length === 0 || value.length % 2 !== 0) return undefined;
      return Array.from({ length: value.length / 2 }, (_, n) =>
        keyText(((value[n * 2] as number) << 8) | (value[n * 2 + 1] as number)),
      ).join(",");
    case "alpn":
      return alpnText(value);
    case "no-default-alpn":
      return value.length === 0 ? "" : undefined;
    case "port":
      return value.length === 2 ? String(((value[0] as number) << 8) | (value[1] as number)) : undefined;
    case "ipv4hint":
    case "ipv6hint": {
      const [family, length] = keys[key] === "ipv4hint" ? ([4, 4] as const) : ([6, 16] as const);
      if (value.length === 0 || value.length % length !== 0) return undefined;
      return Array.from({ length: value.length / length }, (_, n) =>
        formatAddress(addressFromBytes(family, value.subarray(n * length, (n + 1) * length))),
      ).join(",");
    }
    case "ech":
      return value.length === 0 ? undefined : toBase64(value);
    case "dohpath":
      return value.length === 0 ? undefined : quoted(value);
    case undefined:
      return value.length === 0 ? "" : quoted(value);
  }
}

function alpnText(value: Uint8Array): string | undefined {
  const octets: number[] = [];
  for (let at = 0; at < value.length; ) {
    const next = at + 1 + (value[at] as number);
    if (next === at + 1 || next > value.length) return undefined;
    if (at > 0) octets.push(COMMA);
    for (const octet of value.subarray(at + 1, next)) {
      if (octet === COMMA || octet === BACKSLASH) octets.push(BACKSLASH);
      octets.push(octet);
    }
    at = next;
  }
  if (octets.length === 0) return undefined;
  const bytes = Uint8Array.from(octets);
  const isPlain = bytes.every((octet) => /[A-Za-z0-9/.,-]/.test(String.fromCharCode(octet)));
  return isPlain ? String.fromCharCode(...bytes) : quoted(bytes);
}
