import { type IpAddress, parsePrefix } from "#kit";

/** An address in the first prefix of a client network. Throws RangeError when it has none. */
export function addressOf(prefixes: readonly string[]): IpAddress {
  const prefix = parsePrefix(prefixes[0] ?? "");
  if (prefix === undefined) throw new RangeError(`${JSON.stringify(prefixes[0])} is no prefix`);
  return prefix.address;
}
