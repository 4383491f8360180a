/**
 * A map that is made ready while the one before goes on answering: decoded, looked at, flattened, and with the choices for
 * all that is asked about. At 444,000 networks that is seconds of work; none of it is left for the moment when the map is put in force.
 */
import type { MapSnapshot, Steps } from "#kit";
import { MapIndex } from "../map-index.ts";
import { factsInSteps } from "../snapshot-check.ts";
import { prepareNearest } from "../policy/nearest.ts";
import { prepareChoices } from "./choice-table.ts";
import type { DnsContext } from "./decision.ts";

/** How often choices are made anew while servers die or documents change; then the first query makes them. */
const ATTEMPTS_MAX = 3;

export interface PreparedMap {
  readonly index: MapIndex;
  /** The context that `next` is made for; undefined: there is none. */
  readonly inForce: DnsContext | undefined;
  readonly next: DnsContext | undefined;
}

/**
 * In steps of a few milliseconds. Throws ParseError when the map does not decode; nothing has changed then.
 *
 * @param previous the map in force: what has not changed is used again
 * @param context what is in force when it is asked, between any two steps another one
 */
export function* prepareMap(
  snapshot: MapSnapshot,
  previous: MapIndex | undefined,
  context: () => DnsContext | undefined,
): Steps<PreparedMap> {
  const index = yield* MapIndex.inSteps(snapshot, previous);
  yield* factsInSteps(index.table);
  for (let attempt = 1; ; attempt++) {
    const inForce = context();
    const next = inForce && { ...inForce, snapshot: index };
    if (inForce !== undefined && next !== undefined) {
      yield* prepareChoices(next, inForce);
      if (inForce.snapshot !== null)
        yield* prepareNearest(next.zones.policies, index, inForce.snapshot, next.topology);
    }
    if (context() === inForce || attempt === ATTEMPTS_MAX) return { index, inForce, next };
  }
}

/**
 * After a death or a return of servers or of policies' targets: makes the choices anew in steps, and puts the context that has them in force. Until then the one before answers,
 * for a fraction of a second at 444,000 networks and less than a turn of the event loop at a thousand.
 *
 * @param context what is in force when it is asked; when it has changed meanwhile, the work begins anew
 * @param changed what of it is another one from now on
 */
export function* renewContext(
  context: () => DnsContext | undefined,
  put: (next: DnsContext) => void,
  changed: () => Partial<DnsContext> = () => ({}),
): Steps<void> {
  for (;;) {
    const inForce = context();
    if (inForce === undefined) return;
    const next = { ...inForce, ...changed() };
    yield* prepareChoices(next, inForce);
    if (context() !== inForce) continue;
    put(next);
    return;
  }
}

/** The context with the map in force. */
export function contextWith(prepared: PreparedMap, inForce: DnsContext): DnsContext {
  return prepared.next !== undefined && prepared.inForce === inForce
    ? prepared.next
    : { ...inForce, snapshot: prepared.index };
}
