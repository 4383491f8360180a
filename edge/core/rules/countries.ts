/** Which country a client's address is in, by a table that the operator supplies. */
import { type IpAddress, type IpPrefix, ParseError, parsePrefix, PrefixTable } from "#kit";

/** Of addresses that no table has: what ISO 3166 leaves to users, and CLDR means by "unknown". */
export const UNKNOWN_COUNTRY = "ZZ";

/** More than the Internet has by country when neighbours are joined; each takes about 200 bytes in every process. */
const PREFIXES_MAX = 500_000;

export type CountryTable = PrefixTable<string>;

/**
 * Reads lines `PREFIX,COUNTRY`, such as `192.0.2.0/24,DE`: a prefix without host bits, two capital letters (ISO 3166-1). Blank lines and
 * lines that begin with "#" do not count. Of nested prefixes the longest tells. Throws ParseError with the line. Half a million take some 100 MB.
 */
export function parseCountries(text: string, name: string): CountryTable {
  const entries: [IpPrefix, string][] = [];
  // One string for each country: a part of `text` would keep all of it.
  const codes = new Map<string, string>();
  let line = 0;
  for (let from = 0; from < text.length; ) {
    const newline = text.indexOf("\n", from);
    const end = newline === -1 ? text.length : newline;
    const row = text.slice(from, end).trim();
    from = end + 1;
    line++;
    if (row === "" || row.startsWith("#")) continue;
    const comma = row.indexOf(",");
    const prefix = comma === -1 ? undefined : parsePrefix(row.slice(0, comma));
    const code = row.slice(comma + 1);
    const refuse = (expected: string): never => {
      throw new ParseError([name, `line ${line}`], row.slice(0, 80), expected);
    };
    if (prefix === undefined || !/^[A-Z]{2}$/.test(code))
      return refuse("PREFIX,COUNTRY such as 192.0.2.0/24,DE");
    if (entries.length >= PREFIXES_MAX) return refuse(`at most ${PREFIXES_MAX} prefixes`);
    let known = codes.get(code);
    if (known === undefined) codes.set(code, (known = code.charAt(0) + code.charAt(1)));
    entries.push([prefix, known]);
  }
  try {
    return new PrefixTable(entries);
  } catch (error) {
    if (error instanceof RangeError) throw new ParseError([name], error.message, "each prefix once");
    throw error;
  }
}

/** The country of an address; {@link UNKNOWN_COUNTRY} where the table has none. */
export function countryOf(table: CountryTable | undefined, address: IpAddress): string {
  return table?.lookup(address)?.value ?? UNKNOWN_COUNTRY;
}
