/** Who may publish a map, and which publication is newer: leases that are granted for a while, and the fences of what was published under them. */
import type { Clock, MonotonicMs } from "#kit";
import { compareFences, decidePublication, type Fence, fenceOf, fenceOfText } from "../core/fence.ts";
import {
  decideLease,
  emptyLease,
  isLeaseHeld,
  type LeaseName,
  leaseNames,
  type LeaseRequest,
  type LeaseState,
  restoredLease,
} from "../core/lease.ts";
import type { LeaseAnswer } from "../core/wire.ts";
import type { DocumentKind } from "../core/words.ts";
import { fenced } from "./refusal.ts";
import type { DocumentStore, StoredDocument } from "./store.ts";

export class Publishers {
  readonly #store: DocumentStore;
  readonly #clock: Clock;
  readonly #leases: Record<LeaseName, LeaseState>;
  /** Of the newest version of each fenced document, by `kind/id`; null: there is none. */
  readonly #newestFences = new Map<string, Fence | null>();
  /** Requests for a lease by outcome. */
  readonly counters = { granted: 0, renewed: 0, released: 0, held: 0, lost: 0 };
  /** Publications that were refused. */
  fenced = 0;

  constructor(store: DocumentStore, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
    const now = clock.monotonic();
    this.#leases = { map: emptyLease("map") };
    for (const record of store.leases()) this.#leases[record.name] = restoredLease(record, now);
  }

  /** Grants, renews, takes back. The answer says who has it now, whatever became of the request. */
  lease(name: LeaseName, request: LeaseRequest): LeaseAnswer {
    const now = this.#clock.monotonic();
    const { outcome, state, mustSave } = decideLease(this.#leases[name], request, now);
    if (mustSave) this.#store.saveLease(state);
    this.#leases[name] = state;
    this.counters[outcome]++;
    return { ...this.#shownLease(name, now), outcome };
  }

  leases(): readonly LeaseAnswer[] {
    const now = this.#clock.monotonic();
    return leaseNames.map((name) => this.#shownLease(name, now));
  }

  #shownLease(name: LeaseName, now: MonotonicMs): LeaseAnswer {
    const state = this.#leases[name];
    const isHeld = isLeaseHeld(state, now);
    const newest = this.#store
      .documents(name)
      .flatMap((one) => this.#newestFence(name, one.id) ?? [])
      .toSorted(compareFences)
      .at(-1);
    return {
      name,
      outcome: "shown",
      term: state.term,
      holderId: isHeld ? state.holderId : null,
      remainingMs: isHeld ? state.expiresAt - now : 0,
      note: isHeld ? state.note : "",
      newest: newest ?? null,
    };
  }

  /** A delayed publisher is refused by its term, a delayed message of the present one by its number. */
  checkFence(kind: DocumentKind, id: string, body: unknown): Fence | undefined {
    const fence = fenceOf(kind, body);
    if (fence === undefined) return undefined;
    const name = leaseNames.find((one) => one === kind);
    const term = name === undefined ? 0 : this.#leases[name].term;
    const newest = this.#newestFence(kind, id);
    const decision = decidePublication(term, newest, fence);
    if (decision === "newer") return fence;
    this.fenced++;
    const offered = `${kind}/${id}: version ${fence.version} of term ${fence.term}`;
    throw fenced(
      decision === "fenced"
        ? `${offered} is not of the present term ${term}; another publisher has been elected`
        : `${offered} is not newer than version ${newest?.version} of term ${newest?.term}`,
      decision,
    );
  }

  /** Nodes would refuse what is older than what they have; an operator is to learn it here. */
  checkActivation(stored: StoredDocument, activeVersion: number | null): void {
    const { kind, id, version } = stored.summary;
    if (!leaseNames.some((one) => one === kind)) return;
    const wanted = fenceOfText(kind, stored.bodyText);
    const active = activeVersion === null ? undefined : this.#store.document(kind, id, activeVersion);
    const inForce = active && fenceOfText(kind, active.bodyText);
    if (wanted === undefined || inForce === undefined || compareFences(wanted, inForce) >= 0) return;
    this.fenced++;
    throw fenced(
      `Version ${version} of ${kind}/${id} was published before the one in force and no node would take it; "isochrone map rollback ${version}" publishes its content anew`,
      "not-newer",
    );
  }

  /** It was appended. */
  handlePublication(kind: DocumentKind, id: string, fence: Fence): void {
    this.#newestFences.set(`${kind}/${id}`, fence);
  }

  #newestFence(kind: DocumentKind, id: string): Fence | undefined {
    const key = `${kind}/${id}`;
    let found = this.#newestFences.get(key);
    if (found === undefined) {
      const newest = this.#store.versions(kind, id).at(-1);
      const stored = newest && this.#store.document(kind, id, newest.version);
      found = (stored && fenceOfText(kind, stored.bodyText)) ?? null;
      this.#newestFences.set(key, found);
    }
    return found ?? undefined;
  }
}
