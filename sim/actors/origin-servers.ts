/** Which server of an origin is asked: the driver of transport's `OriginGroup` for one process (transport/io/origin-groups.ts). */
import { ORIGIN_POLICY, type OriginHealthCheck, type PropertyDocument, xxh32 } from "#kit";
import type { OriginGroup } from "../../transport/core/origin-group.ts";
import { originGroupSettings } from "../../transport/core/origin-words.ts";
import { exchange, type Host } from "./host.ts";
import type { Origin } from "./origin.ts";
import type { Stage } from "./stage.ts";

interface Group {
  readonly machine: OriginGroup;
  readonly serverIds: readonly string[];
  readonly check: OriginHealthCheck | null;
  timerAt: number;
}

export class OriginServers {
  readonly #stage: Stage;
  readonly #host: Host;
  readonly #origins: ReadonlyMap<string, Origin>;
  /** By property document: a new version begins anew, as in the process. */
  readonly #groups = new WeakMap<PropertyDocument, Group>();

  constructor(stage: Stage, host: Host, origins: ReadonlyMap<string, Origin>) {
    this.#stage = stage;
    this.#host = host;
    this.#origins = origins;
  }

  /** Places of the servers to ask, best first; none: nobody can be asked. */
  order(property: PropertyDocument): readonly number[] {
    const group = this.#groupOf(property);
    const { now } = this.#host;
    if (group.check !== null && !group.machine.isChecking) {
      group.machine.startChecks(now);
      this.#turn(group);
    }
    const { indexes, isLastResort } = group.machine.order(now, true);
    const turn = indexes.length === 0 ? "refused" : isLastResort ? "last-resort" : "chosen";
    this.#stage.statistics.count("origin-choice", turn);
    return indexes;
  }

  /** A request goes to a server. Returns what is to be called with the status of its answer; undefined: none came. */
  begin(property: PropertyDocument, index: number): (status: number | undefined) => void {
    const group = this.#groupOf(property);
    const use = group.machine.begin(index, this.#host.now);
    return (status) => {
      const outcome = status === undefined ? "unreachable" : status < 500 ? "ok" : "error-status";
      group.machine.handleOutcome(use, outcome, this.#host.now);
      group.machine.handleEnd(use);
      this.#tell(group);
    };
  }

  #groupOf(property: PropertyDocument): Group {
    const known = this.#groups.get(property);
    if (known !== undefined) return known;
    const serverIds = this.#stage.originsOf.get(property.propertyId) ?? [];
    const policy = property.originPolicy ?? ORIGIN_POLICY;
    const settings = originGroupSettings(property.origins.slice(0, serverIds.length), policy);
    const group: Group = {
      machine: this.#stage.cores.originGroup(settings, xxh32(this.#host.id)),
      serverIds,
      check: policy.healthCheck,
      timerAt: Number.POSITIVE_INFINITY,
    };
    this.#groups.set(property, group);
    return group;
  }

  /** Every check that is due; then one timer. */
  #turn(group: Group): void {
    const { machine } = group;
    const { now } = this.#host;
    machine.handleTimeout(now);
    for (let probe = machine.pollCheck(now); probe; probe = machine.pollCheck(now)) this.#check(group, probe);
    this.#tell(group);
    const next = machine.pollTimeout(now);
    if (next === undefined || next >= group.timerAt) return;
    group.timerAt = next;
    this.#host.after(next - now, "origin-checks", () => {
      if (group.timerAt !== next) return;
      group.timerAt = Number.POSITIVE_INFINITY;
      this.#turn(group);
    });
  }

  #check(
    group: Group,
    { index, probeId, timeoutMs }: { index: number; probeId: number; timeoutMs: number },
  ): void {
    const { check, serverIds } = group;
    const serverId = serverIds[index] ?? "";
    const to = this.#stage.hosts.get(serverId);
    if (to === undefined || check === null) return;
    exchange<number>({
      from: this.#host,
      to,
      label: "origin-check",
      connectTimeoutMs: timeoutMs,
      timeoutMs,
      serve: (respond) =>
        check.kind === "tcp" ? respond(check.statusMin) : this.#origins.get(serverId)?.check(respond),
      done: (outcome) => {
        const isOk =
          outcome.kind === "answer" && outcome.value >= check.statusMin && outcome.value <= check.statusMax;
        group.machine.handleCheck(probeId, isOk, this.#host.now);
        this.#turn(group);
      },
    });
  }

  #tell({ machine }: Group): void {
    for (let event = machine.pollEvent(); event; event = machine.pollEvent()) {
      this.#stage.statistics.count("origin-server", event.type);
      this.#host.note(`origin ${event.server}: ${event.type} (${event.reason})`);
    }
  }
}
