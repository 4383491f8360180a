/** `npm run lab -- zone-peers`: zones drawn at random, answered by our core and by BIND and Knot; every difference has a reason or fails. */
import { parseArgs } from "node:util";
import { wholeNumber } from "../tools/flags.ts";
import { requireProgram } from "../tools/processes.ts";
import { type Comparison, compareAnswers } from "../tools/zones/compare.ts";
import { askedTypes, drawZones } from "../tools/zones/generate.ts";
import { askHosted, hostedContext, queryFor, zoneFrom } from "../tools/zones/hosted.ts";
import { type Peer, startKnot, startNamed } from "../tools/zones/peers.ts";
import { readMessage } from "../../mapping/core/dns/wire.ts";

export const summary = "zones and queries drawn at random: our answers beside those of BIND and Knot";

const HELP = `Usage: npm run lab -- zone-peers [options]

${summary}: rcode, AA, answer and authority as sets, glue of referrals. Exit code 1: a difference without a known reason.
A peer that is not installed is left out, and said to be.

  --zones N   zones (default 40)
  --seed N    the same seed gives the same zones and queries (default 1)
  --show N    differences that are shown of each kind (default 3)
  --help
`;

/** Queries that are under way at once. */
const AT_ONCE = 64;

export interface PeerResult {
  readonly cases: number;
  readonly counts: Readonly<Record<string, number>>;
  readonly shown: readonly ({ readonly question: string } & Comparison)[];
}

/** Asks a peer and us every name of the zones for every type. */
export async function comparePeer(
  seed: number,
  zoneCount: number,
  start: (zones: ReturnType<typeof drawZones>) => Promise<Peer>,
  show: number,
): Promise<PeerResult> {
  const zones = drawZones(seed, zoneCount);
  const state = hostedContext(zones.map(({ text }) => zoneFrom(text)));
  const peer = await start(zones);
  const counts: Record<string, number> = {};
  const shown: ({ question: string } & Comparison)[] = [];
  let cases = 0;
  try {
    const questions = zones.flatMap(({ names }) =>
      names.flatMap((labels) => askedTypes.map((type) => ({ labels, type }))),
    );
    for (let at = 0; at < questions.length; at += AT_ONCE) {
      await Promise.all(
        questions.slice(at, at + AT_ONCE).map(async ({ labels, type }) => {
          const query = queryFor(labels, type);
          const theirs = readMessage(await peer.ask(query));
          if (!theirs.ok) throw new Error(`${peer.name}: ${theirs.fault}`);
          const result = compareAnswers(askHosted(state, query).message, theirs.message);
          cases++;
          const count = (counts[result.verdict] ?? 0) + 1;
          counts[result.verdict] = count;
          if (result.verdict !== "equal" && count <= show)
            shown.push({ question: `${labels.join(".")} TYPE${type}`, ...result });
        }),
      );
    }
  } finally {
    await peer.close();
  }
  return { cases, counts, shown };
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      zones: { type: "string", default: "40" },
      seed: { type: "string", default: "1" },
      show: { type: "string", default: "3" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const zones = wholeNumber("zones", values.zones, 1, 500);
  const seed = wholeNumber("seed", values.seed, 1, 2 ** 31 - 1);
  const show = wholeNumber("show", values.show, 0, 1_000);
  const result: Record<string, PeerResult | { readonly skipped: string }> = {};
  for (const [name, start] of [
    ["named", startNamed],
    ["knotd", startKnot],
  ] as const) {
    const program = requireProgram(name);
    result[name] =
      program === undefined
        ? { skipped: "not installed" }
        : await comparePeer(seed, zones, (drawn) => start(program, drawn), show);
  }
  console.log(JSON.stringify({ zones, seed, result }, undefined, 2));
  return Object.values(result).some((one) => "counts" in one && (one.counts["different"] ?? 0) > 0) ? 1 : 0;
}
