/**
 * Tokens that open paths of a property until they end. A token is fields joined by "~":
 *
 *     exp=1796000000~kid=k1~hmac=HEX                  the path that it is sent for
 *     exp=1796000000~acl=/video/7/*~kid=k1~hmac=HEX   every path that begins with /video/7/
 *
 * `exp`: seconds since the epoch. `hmac`: HMAC-SHA256 in lower-case hex over the text before it, for a path with "~path=" and
 * the path behind. Paths count in their normal form (rules/request-facts.ts), without query: that is not signed.
 */
import type { AccessPolicy, EpochMs } from "#kit";
import { type Field, type Fields, fieldLines } from "../headers.ts";
import { hidesParent, normalPath, pathOf } from "../rules/request-facts.ts";

/** Why a request has no valid token; the same words stand in answer, metric and `explain`. */
export type TokenRefusal = "missing" | "malformed" | "unknown-key" | "wrong" | "expired" | "path";

/** Whether `mac` (hex) is that of `text` under a key; undefined: there is no such key. */
export type MacCheck = (keyId: string, text: string, mac: string) => boolean | undefined;

/** Browsers send cookies of equal name for several paths; each is judged, so many at most. */
const TOKENS_MAX = 4;
const TOKEN_CHARACTERS_MAX = 1_024;
const FORM = /^(exp=([0-9]{1,11})(?:~acl=(\/[!-)+-}]*\*?))?~kid=([a-z0-9-]{1,63}))~hmac=([0-9a-f]{64})$/;

/** What is signed. `acl` undefined: for `path` alone. */
export function tokenText(
  expiresAt: EpochMs,
  keyId: string,
  covers: { readonly acl: string } | { readonly path: string },
): string {
  const expiry = `exp=${Math.floor(expiresAt / 1_000)}`;
  return "acl" in covers
    ? `${expiry}~acl=${covers.acl}~kid=${keyId}`
    : `${expiry}~kid=${keyId}~path=${normalPath(covers.path)}`;
}

/** Undefined: the request has a valid token, in the query or a cookie. Of several one is enough; else the first one's fault is told. */
export function judgeToken(
  request: { readonly target: string; readonly fields: Fields },
  { parameter }: Pick<AccessPolicy, "parameter">,
  isRight: MacCheck,
  now: EpochMs,
): TokenRefusal | undefined {
  const tokens = [...queryValues(request.target, parameter), ...cookieValues(request.fields, parameter)];
  if (tokens.length > TOKENS_MAX) return "malformed";
  const path = normalPath(pathOf(request.target));
  let fault: TokenRefusal = "missing";
  for (const [index, text] of tokens.entries()) {
    const refusal = judge(text, path, isRight, now);
    if (refusal === undefined) return undefined;
    if (index === 0) fault = refusal;
  }
  return fault;
}

function judge(text: string, path: string, isRight: MacCheck, now: EpochMs): TokenRefusal | undefined {
  const match = text.length > TOKEN_CHARACTERS_MAX ? null : FORM.exec(decoded(text));
  if (match === null) return "malformed";
  const [, before = "", expiry = "", acl, keyId = "", mac = ""] = match;
  // The signature first: what a token says is told to nobody who could have made it up.
  const verdict = isRight(keyId, acl === undefined ? `${before}~path=${path}` : before, mac);
  if (verdict === undefined) return "unknown-key";
  if (!verdict) return "wrong";
  if (now >= Number(expiry) * 1_000) return "expired";
  return acl === undefined || covers(acl, path) ? undefined : "path";
}

function covers(acl: string, path: string): boolean {
  if (!acl.endsWith("*")) return path === acl;
  return path.startsWith(acl.slice(0, -1)) && !hidesParent(path);
}

/** As libraries encode values of queries and cookies; what does not decode is no token. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

function queryValues(target: string, name: string): readonly string[] {
  const mark = target.indexOf("?");
  return mark === -1 ? [] : valuesOf(target.slice(mark + 1).split("&"), name);
}

function cookieValues(fields: Fields, name: string): readonly string[] {
  return fieldLines(fields, "cookie").flatMap((line) => valuesOf(line.split(";"), name));
}

function valuesOf(pairs: readonly string[], name: string): readonly string[] {
  return pairs.flatMap((pair) => (isOf(pair, name) ? [pair.trim().slice(name.length + 1)] : []));
}

/** Whether a parameter or a cookie has the name. */
function isOf(pair: string, name: string): boolean {
  const text = pair.trimStart();
  return text.startsWith(name) && (text.length === name.length || text[name.length] === "=");
}

interface Carrier {
  readonly target: string;
  readonly fields: Fields;
}

/** The request without its tokens: what is keyed, asked of the next hop, and read by rules. The same object when it has none. */
export function withoutToken<T extends Carrier>(request: T, parameter: string): T {
  const target = targetWithoutToken(request.target, parameter);
  const hasCookie = fieldLines(request.fields, "cookie").some((line) =>
    line.split(";").some((pair) => isOf(pair, parameter)),
  );
  if (target === request.target && !hasCookie) return request;
  return {
    ...request,
    target,
    fields: hasCookie ? withoutCookie(request.fields, parameter) : request.fields,
  };
}

/** A target without the tokens in its query, and without its "?" when nothing else is there. */
export function targetWithoutToken(target: string, parameter: string): string {
  const mark = target.indexOf("?");
  if (mark === -1 || !target.includes(parameter, mark)) return target;
  const pairs = target.slice(mark + 1).split("&");
  const kept = pairs.filter((pair) => !isOf(pair, parameter));
  if (kept.length === pairs.length) return target;
  const path = target.slice(0, mark);
  return kept.length === 0 ? path : `${path}?${kept.join("&")}`;
}

function withoutCookie(fields: Fields, name: string): Fields {
  return fields.flatMap((field): readonly Field[] => {
    if (field[0].toLowerCase() !== "cookie") return [field];
    const kept = field[1].split(";").filter((pair) => !isOf(pair, name));
    return kept.length === 0 ? [] : [[field[0], kept.join(";").trimStart()]];
  });
}
