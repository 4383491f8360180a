/** Back to the content of an older map, as a new version in a term of the operator's own. */
import { type ControlClient, ControlError, type LeaseAnswer } from "#control";
import { allSteps, differenceOf, formatDurationMs, type MapSnapshot, mapSnapshot, named } from "#kit";
import { authorName } from "../author.ts";
import { MAP_ID, OPERATOR_ID } from "../../mapping/core/publisher-election.ts";
import { UsageError } from "../usage.ts";
import { publicationText, readVersion, versionOf } from "./read.ts";

/** An operator is told in reasons and as an author. */
const OPERATOR_NAME_MAX = 63;

export interface RollBackOptions {
  readonly isJson: boolean;
  readonly holdMs: number;
  readonly note: string | undefined;
}

/** A mapper's map that was under way may come between reading the newest version and writing the next. */
const TRIES_MAX = 5;

/** Throws {@link UsageError}, exit code 1, when control does not keep the version. */
export async function rollBack(
  client: ControlClient,
  subject: string,
  options: RollBackOptions,
): Promise<void> {
  const wanted = await readVersion(client, versionOf(subject));
  const inForce = await readVersion(client, undefined);
  const why = `rollback to version ${subject} by ${authorName(OPERATOR_NAME_MAX)}${options.note === undefined ? "" : `: ${options.note}`}`;
  const lease = await client.lease("map", {
    action: "hold",
    holderId: OPERATOR_ID,
    term: 0,
    seenTerm: inForce.snapshot.publication?.term ?? 0,
    durationMs: options.holdMs,
    preempts: true,
    note: why.slice(0, 500),
  });
  // The mappers' term is over from here on: nothing of theirs is taken any more.
  const summary = await publish(client, wanted.snapshot, inForce.snapshot, lease, why);
  if (options.isJson) return console.log(JSON.stringify({ ...summary, term: lease.term }, null, 2));
  console.log(
    `version ${summary.version} is in force with the content of version ${subject} (${publicationText(wanted.snapshot)}), in term ${lease.term}`,
  );
  console.error(`Mappers stand by for ${formatDurationMs(options.holdMs)}, or until: isochrone map release`);
}

async function publish(
  client: ControlClient,
  content: MapSnapshot,
  inForce: MapSnapshot,
  lease: LeaseAnswer,
  note: string,
) {
  const mapVersion = Math.max(lease.newest?.version ?? 0, content.mapVersion) + 1;
  const body = mapSnapshot.parse({
    ...content,
    mapVersion,
    clusterMap: content.clusterMap.withVersion(mapVersion),
    createdAtEpochMs: Date.now(),
    reason: "rollback",
    publication: { term: lease.term, publisherId: OPERATOR_ID },
  });
  const difference = allSteps(differenceOf(allSteps(named(inForce)), allSteps(named(body))));
  let expectedVersion = (await client.versions("map", MAP_ID)).at(-1)?.version ?? 0;
  for (let tries = 1; ; tries++) {
    try {
      const author = authorName(OPERATOR_NAME_MAX);
      return await client.put("map", MAP_ID, body, {
        expectedVersion,
        author,
        note: note.slice(0, 500),
        difference,
      });
    } catch (error) {
      const present =
        error instanceof ControlError && error.code === "conflict" ? error.presentVersion : undefined;
      if (typeof present !== "number" || tries >= TRIES_MAX) throw error;
      expectedVersion = present;
    }
  }
}

/** Lets the mappers publish again. Throws {@link UsageError}, exit code 1, when no operator holds the place. */
export async function release(client: ControlClient, isJson: boolean): Promise<void> {
  const [lease] = await client.leases();
  if (lease?.holderId !== OPERATOR_ID)
    throw new UsageError(
      lease === undefined || lease.holderId === null
        ? "Nobody holds the place of the publisher: a mapper will take it within seconds"
        : `The place of the publisher is ${lease.holderId}'s, not an operator's: there is nothing to release`,
      1,
    );
  const { term } = lease;
  const answer = await client.lease("map", {
    action: "release",
    holderId: OPERATOR_ID,
    term,
    seenTerm: term,
    durationMs: 1_000,
    preempts: false,
    note: "",
  });
  console.log(
    isJson
      ? JSON.stringify(answer, null, 2)
      : `term ${term} is given back; a mapper publishes within seconds`,
  );
}
