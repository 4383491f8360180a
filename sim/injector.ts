/** Makes faults happen and ends them: the one place that reaches into hosts, links and origins. */
import type { Fault } from "./core/faults.ts";
import type { Incident } from "./core/incidents.ts";
import type { ControlStore } from "./actors/control-store.ts";
import type { DocumentFollower } from "./actors/document-follower.ts";
import type { Host } from "./actors/host.ts";
import { type NameServer, poisoned } from "./actors/name-server.ts";
import type { Origin } from "./actors/origin.ts";
import type { Stage } from "./actors/stage.ts";

/** A replay needs something old, and a push control: both are tried this often, ms. */
const AGAIN_MS = 1_000;

export class Injector {
  readonly #stage: Stage;
  readonly #control: ControlStore;
  readonly #origins: ReadonlyMap<string, Origin>;
  readonly #followers: ReadonlyMap<string, DocumentFollower>;
  readonly #nameServers: readonly NameServer[];
  /** Name servers that choke on the topology that was pushed last. */
  #victims: ReadonlySet<string> = new Set();

  constructor(
    stage: Stage,
    control: ControlStore,
    origins: ReadonlyMap<string, Origin>,
    followers: ReadonlyMap<string, DocumentFollower>,
    nameServers: readonly NameServer[],
  ) {
    this.#stage = stage;
    this.#control = control;
    this.#origins = origins;
    this.#followers = followers;
    this.#nameServers = nameServers;
  }

  /** Schedules both ends of a fault. */
  plan(fault: Fault): void {
    const { queue, incidents, trace } = this.#stage;
    const incident = incidents.add(fault);
    queue.schedule(fault.at, "fault", `begin ${fault.id}`, () => {
      if (fault.kind === "document-replay") {
        this.#replay(incident);
        return;
      }
      incident.startedAt = queue.now;
      trace.note(queue.now, "fault", `${fault.kind} ${fault.target} begins`);
      this.#set(fault, true);
    });
    queue.schedule(fault.at + fault.durationMs, "fault", `end ${fault.id}`, () => {
      if (incident.startedAt === undefined) return;
      incident.endedAt = queue.now;
      if (fault.kind === "document-replay") return;
      trace.note(queue.now, "fault", `${fault.kind} ${fault.target} ends`);
      this.#set(fault, false);
    });
  }

  #set(fault: Fault, isOn: boolean): void {
    const { network, queue, topology } = this.#stage;
    const link = (a: string, b: string): void =>
      isOn ? network.cut(a, b, queue.now) : network.mend(a, b, queue.now);
    const [a = "", b = ""] = fault.target.split("|");
    switch (fault.kind) {
      case "server-crash":
      case "control-loss":
      case "mapper-crash":
        this.#process(fault.target, isOn, (host) => host.stop("crashed"));
        break;
      case "server-hang":
      case "mapper-hang":
        this.#process(fault.target, isOn, (host) => host.hang());
        break;
      case "cluster-loss":
        for (const { serverId } of topology.clusters.find((one) => one.clusterId === fault.target)?.servers ??
          [])
          this.#process(serverId, isOn, (host) => host.stop("gone"));
        break;
      case "link-cut":
      case "client-cut":
        link(a, b);
        break;
      case "link-lossy":
        if (isOn) network.addLoss(a, b, fault.degree, queue.now);
        else network.removeLoss(a, b, fault.degree, queue.now);
        break;
      case "control-partition":
        for (const site of fault.target.split(",")) link(site, this.#control.host.site);
        break;
      case "origin-outage": {
        const origin = this.#origins.get(fault.target);
        if (fault.degree > 0 && origin !== undefined) origin.isFailing = isOn;
        else this.#process(fault.target, isOn, (host) => host.stop("gone"));
        break;
      }
      case "document-poison":
        this.#victims = new Set(isOn ? this.#victimsOf(fault.target) : []);
        this.#pushTopology();
        break;
      case "document-replay":
        break;
      default:
        fault.kind satisfies never;
    }
  }

  /** All, or the first one that stands for itself and whoever stands in. */
  #victimsOf(target: string): readonly string[] {
    const first = this.#nameServers.find(({ isStandIn }) => !isStandIn);
    return this.#nameServers.flatMap((one) =>
      target === "topology" || one.isStandIn || one === first ? [one.host.id] : [],
    );
  }

  #pushTopology(): void {
    const { queue, topology } = this.#stage;
    if (!this.#control.host.isServing) {
      queue.schedule(queue.now + AGAIN_MS, "fault", "push again", () => this.#pushTopology());
      return;
    }
    const body = this.#victims.size > 0 ? poisoned(topology, this.#victims) : topology;
    const { latestVersion } = this.#control.headOf("topology", "world");
    this.#control.put("topology", "world", body, latestVersion);
  }

  #process(id: string, isOn: boolean, stop: (host: Host) => void): void {
    const host = this.#stage.hosts.get(id);
    if (host === undefined) throw new RangeError(`Fault at ${id}: no such process`);
    if (isOn) stop(host);
    else host.resume();
  }

  #replay(incident: Incident): void {
    const { queue } = this.#stage;
    const { fault } = incident;
    if (queue.now > fault.at + fault.durationMs) return;
    const follower = this.#followers.get(fault.target);
    const isServing = this.#control.host.isServing && this.#stage.hosts.get(fault.target)?.isServing === true;
    if (isServing && this.#control.replayOld(fault.target, (key) => follower?.seqOf(key))) {
      incident.startedAt = queue.now;
      return;
    }
    queue.schedule(queue.now + AGAIN_MS, "fault", `replay ${fault.id}`, () => this.#replay(incident));
  }
}
