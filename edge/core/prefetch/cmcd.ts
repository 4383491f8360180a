/** Common Media Client Data (CTA-5004): the player says what it will ask for next (`nor`), and which bytes of it (`nrr`). */
import { fieldValue, type Fields } from "../headers.ts";
import { type PageAddress, type Reference, resolveReference } from "./reference.ts";
import type { ReferenceScope } from "./reference.ts";

const DATA_CHARACTERS_MAX = 2_048;

/** Undefined: no hint, or none that may be followed. `page` of the scope is the request itself. */
export function cmcdHint(fields: Fields, scope: ReferenceScope): Reference | undefined {
  const data = fieldValue(fields, "cmcd-request") ?? queryData(scope.page);
  if (data === undefined || data.length > DATA_CHARACTERS_MAX) return undefined;
  const next = stringOf(data, "nor");
  if (next === undefined) return undefined;
  const path = decoded(next);
  // CTA-5004: a path relative to the current request, at the same host.
  if (path === undefined || /^[a-z][a-z0-9+.-]*:|^\/\//i.test(path)) return undefined;
  const address = resolveReference(path, scope.page);
  if (address === undefined || address.host !== scope.page.host) return undefined;
  const range = /^(\d{1,15})-(\d{1,15})$/.exec(stringOf(data, "nrr") ?? "");
  const bytes = range === null ? undefined : { from: Number(range[1]), to: Number(range[2]) };
  // An open range is not asked for beforehand.
  if (stringOf(data, "nrr") !== undefined && (bytes === undefined || bytes.to < bytes.from)) return undefined;
  return { ...address, role: "media", ...(bytes !== undefined && { bytes }) };
}

function queryData(page: PageAddress): string | undefined {
  const parameter = /[?&]CMCD=([^&]*)/.exec(page.target)?.[1];
  return parameter === undefined ? undefined : decoded(parameter);
}

/** A key with a string value; keys are separated by commas. */
function stringOf(data: string, key: string): string | undefined {
  for (const part of data.matchAll(/(?:^|,)\s*([a-zA-Z0-9.-]{1,64})(?:=(?:"((?:[^"\\]|\\.)*)"|([^,"]*)))?/g))
    if (part[1] === key) return part[2]?.replace(/\\(.)/g, "$1");
  return undefined;
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
