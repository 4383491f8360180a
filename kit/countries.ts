/** Which country, and which continent, a client's address is in, by a table that the operator supplies. */
import { type IpAddress, type IpPrefix, parsePrefix } from "./ip.ts";
import { PrefixTable } from "./prefix-table.ts";
import { ParseError } from "./schema.ts";

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

export const continents = ["AF", "AN", "AS", "EU", "NA", "OC", "SA"] as const;
export type Continent = (typeof continents)[number];

/** ISO 3166-1 codes by continent, as GeoNames counts them: Turkey and Cyprus are in Asia, Russia is in Europe. XK: Kosovo. */
const countriesOfContinents: Readonly<Record<Continent, string>> = {
  AF: "AO BF BI BJ BW CD CF CG CI CM CV DJ DZ EG EH ER ET GA GH GM GN GQ GW KE KM LR LS LY MA MG ML MR MU MW MZ NA NE NG RE RW SC SD SH SL SN SO SS ST SZ TD TG TN TZ UG YT ZA ZM ZW",
  AN: "AQ BV GS HM TF",
  AS: "AE AF AM AZ BD BH BN BT CC CN CX CY GE HK ID IL IN IO IQ IR JO JP KG KH KP KR KW KZ LA LB LK MM MN MO MV MY NP OM PH PK PS QA SA SG SY TH TJ TL TM TR TW UZ VN YE",
  EU: "AD AL AT AX BA BE BG BY CH CZ DE DK EE ES FI FO FR GB GG GI GR HR HU IE IM IS IT JE LI LT LU LV MC MD ME MK MT NL NO PL PT RO RS RU SE SI SJ SK SM UA VA XK",
  NA: "AG AI AW BB BL BM BQ BS BZ CA CR CU CW DM DO GD GL GP GT HN HT JM KN KY LC MF MQ MS MX NI PA PM PR SV SX TC TT US VC VG VI",
  OC: "AS AU CK FJ FM GU KI MH MP NC NF NR NU NZ PF PG PN PW SB TK TO TV UM VU WF WS",
  SA: "AR BO BR CL CO EC FK GF GY PE PY SR UY VE",
};
const continentOfCountry: ReadonlyMap<string, Continent> = new Map(
  continents.flatMap((continent) =>
    countriesOfContinents[continent].split(" ").map((country) => [country, continent] as const),
  ),
);

/** Undefined: no country that has one, as {@link UNKNOWN_COUNTRY}. */
export function continentOf(country: string): Continent | undefined {
  return continentOfCountry.get(country);
}
