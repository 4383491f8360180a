/** RDATA from octets to the words of a zone file; also the check that octets are what their type says. */
import { toBase64 } from "../base64.ts";
import { addressFromBytes, formatAddress } from "../ip.ts";
import { locationText } from "./location.ts";
import { nameToText, readName } from "./name.ts";
import { fieldsOfType, type RdataField } from "./record-types.ts";
import { paramsText } from "./service-params.ts";
import { quoted } from "./zone-text.ts";

/**
 * The words of `rdata`, whose names are uncompressed; undefined when the octets are no RDATA of that type. A type that is known by
 * number only has the generic form (RFC 3597 section 5). Never throws.
 */
export function rdataText(type: number, rdata: Uint8Array): string | undefined {
  const fields = fieldsOfType(type);
  if (fields === undefined) return genericText(rdata);
  const words: string[] = [];
  let at = 0;
  for (const field of fields) {
    const written = writeField(field, rdata, at);
    if (written === undefined) return undefined;
    if (written.text !== "") words.push(written.text);
    at = written.next;
  }
  return at === rdata.length ? words.join(" ") : undefined;
}

interface Written {
  readonly text: string;
  readonly next: number;
}

function writeField(field: RdataField, rdata: Uint8Array, at: number): Written | undefined {
  const left = rdata.length - at;
  const end = rdata.length;
  switch (field) {
    case "u8":
      return left < 1 ? undefined : { text: String(rdata[at]), next: at + 1 };
    case "u16":
      return left < 2 ? undefined : { text: String(unsigned(rdata, at, 2)), next: at + 2 };
    case "u32":
    case "time":
      return left < 4 ? undefined : { text: String(unsigned(rdata, at, 4)), next: at + 4 };
    case "ipv4":
    case "ipv6": {
      const [family, length] = field === "ipv4" ? ([4, 4] as const) : ([6, 16] as const);
      if (left < length) return undefined;
      const address = addressFromBytes(family, rdata.subarray(at, at + length));
      return { text: formatAddress(address), next: at + length };
    }
    case "name": {
      const read = readName(rdata, at);
      // A pointer would make the name shorter in its place than it is.
      if (!read.ok || read.next - at !== read.name.wire.length) return undefined;
      return { text: nameToText(read.name), next: read.next };
    }
    case "string":
    case "tag": {
      const next = at + 1 + (rdata[at] ?? 0);
      if (left < 1 || next > end) return undefined;
      const octets = rdata.subarray(at + 1, next);
      const isTag = field === "tag";
      if (isTag && (octets.length === 0 || !octets.every(isAlphanumeric))) return undefined;
      return { text: isTag ? String.fromCharCode(...octets) : quoted(octets), next };
    }
    case "strings": {
      const strings: string[] = [];
      for (let from = at; from < end; ) {
        const one = writeField("string", rdata, from);
        if (one === undefined) return undefined;
        strings.push(one.text);
        from = one.next;
      }
      return strings.length === 0 ? undefined : { text: strings.join(" "), next: end };
    }
    case "text":
      return { text: quoted(rdata.subarray(at)), next: end };
    case "hex":
      return left < 1 ? undefined : { text: hexText(rdata.subarray(at)), next: end };
    case "base64":
      return left < 1 ? undefined : { text: toBase64(rdata.subarray(at)), next: end };
    case "eui48":
    case "eui64": {
      const next = at + (field === "eui48" ? 6 : 8);
      if (next > end) return undefined;
      return { text: Array.from(rdata.subarray(at, next), hexOctet).join("-"), next };
    }
    case "location": {
      const text = locationText(rdata.subarray(at));
      return text === undefined ? undefined : { text, next: end };
    }
    case "params": {
      const text = paramsText(rdata.subarray(at));
      return text === undefined ? undefined : { text, next: end };
    }
  }
}

function genericText(rdata: Uint8Array): string {
  return rdata.length === 0 ? "\\# 0" : `\\# ${rdata.length} ${hexText(rdata)}`;
}

function unsigned(bytes: Uint8Array, at: number, length: number): number {
  let value = 0;
  for (let n = 0; n < length; n++) value = value * 256 + (bytes[at + n] as number);
  return value;
}

function isAlphanumeric(octet: number): boolean {
  return /[A-Za-z0-9]/.test(String.fromCharCode(octet));
}

function hexOctet(octet: number): string {
  return octet.toString(16).padStart(2, "0");
}

function hexText(bytes: Uint8Array): string {
  return Array.from(bytes, hexOctet).join("");
}
