/** `isochrone networks diff`. */
import { diffNetworks, readNetworkFile } from "#mapping";
import { UsageError } from "../usage.ts";

/** Names that are written out for people; `--json` has all. */
const NAMES_SHOWN = 10;

export async function diff(
  files: readonly string[],
  options: { readonly json?: boolean | undefined },
): Promise<number> {
  const [oldFile, newFile, ...more] = files;
  if (oldFile === undefined || newFile === undefined || more.length > 0)
    throw new UsageError("diff takes OLD and NEW; see --help");
  const [before, after] = [await readNetworkFile(oldFile), await readNetworkFile(newFile)];
  const found = diffNetworks(before.networks, after.networks);
  if (options.json === true) {
    console.log(JSON.stringify(found));
    return 0;
  }
  const { kept, unchanged, gone, added, cells } = found;
  const share = (family: 4 | 6): string => {
    const { common, sameName } = cells[family];
    return common === 0 ? "none in common" : `${((100 * sameName) / common).toFixed(2)} % of what both have`;
  };
  const some = (names: readonly string[]): string =>
    names.length === 0
      ? ""
      : `: ${names.slice(0, NAMES_SHOWN).join(" ")}${names.length > NAMES_SHOWN ? " ..." : ""}`;
  console.log(
    [
      `${oldFile}: ${before.networks.length} client networks, ${newFile}: ${after.networks.length}`,
      `  kept ${kept}, of which ${unchanged} have the same address space`,
      `  new ${added.length}${some(added)}`,
      `  gone ${gone.length}${some(gone)}`,
      `  under the same name: IPv4 ${share(4)}, IPv6 ${share(6)}`,
    ].join("\n"),
  );
  return 0;
}
