/** The operator's table of countries, from its file. */
import { IsochroneError } from "../errors.ts";
import { readFileIfThere } from "./files.ts";
import { type CountryTable, parseCountries } from "../countries.ts";

/** About twice what so many prefixes as are taken need. */
const BYTES_MAX = 32 * 2 ** 20;

/** Throws IsochroneError or ParseError, with the path. */
export function readCountries(path: string): CountryTable {
  const data = readFileIfThere(path, BYTES_MAX);
  if (data === undefined)
    throw new IsochroneError(`--countries: no file ${JSON.stringify(path)}`, {
      code: "file-missing",
      source: "configuration",
      retry: "never",
    });
  return parseCountries(data.toString("utf8"), path);
}
