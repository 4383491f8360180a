/** Whoever runs the deployment: changes properties, rolls them back, publishes content and purges it. */
import type { PropertyDocument, PurgeRequest, Random } from "#kit";
import type { ControlStore } from "./control-store.ts";
import type { Host, Program } from "./host.ts";
import type { Stage } from "./stage.ts";

/** Mean time between two acts, ms. */
const ACT_MS = 4_000;
/** From new content at the origin to its purge, ms. */
const PUBLISH_MS = 200;
/** Values that take turns in a field whose value no invariant depends on. */
const NEGATIVE_TTL_MAX = 5;

export class Operator implements Program {
  readonly host: Host;
  readonly #stage: Stage;
  readonly #control: ControlStore;
  readonly #random: Random;

  constructor(stage: Stage, host: Host, control: ControlStore) {
    this.#stage = stage;
    this.host = host;
    this.#control = control;
    this.#random = stage.random.split("operator");
  }

  start(): void {
    this.host.after(this.#random.exponential(ACT_MS), "act", () => {
      if (this.#control.host.isServing) this.#act();
      else this.#stage.statistics.count("operator", "control-away");
      this.start();
    });
  }

  #act(): void {
    const property = this.#random.pick(this.#stage.properties);
    const share = this.#random.float();
    if (share < 0.25) this.#change(property);
    else if (share < 0.4) this.#rollBack(property);
    else this.#publish(property);
  }

  #change(property: PropertyDocument): void {
    const { latestVersion, activeVersion } = this.#control.headOf("property", property.propertyId);
    const active = this.#control.bodyOf(
      "property",
      property.propertyId,
      activeVersion ?? 0,
    ) as PropertyDocument;
    const negativeTtlSeconds = (active.caching.negativeTtlSeconds + 1) % NEGATIVE_TTL_MAX;
    const body: PropertyDocument = { ...active, caching: { ...active.caching, negativeTtlSeconds } };
    const { outcome } = this.#control.put("property", property.propertyId, body, latestVersion);
    this.#stage.statistics.count("operator", `change-${outcome}`);
  }

  #rollBack(property: PropertyDocument): void {
    const { latestVersion, activeVersion } = this.#control.headOf("property", property.propertyId);
    const version = 1 + this.#random.int(latestVersion);
    const isDone =
      version !== activeVersion && this.#control.activate("property", property.propertyId, version);
    this.#stage.statistics.count("operator", isDone ? "roll-back" : "roll-back-nothing");
  }

  #publish(property: PropertyDocument): void {
    const object = this.#stage.catalog.draw(property.propertyId, this.#random);
    if (object === undefined) return;
    const isByTag = this.#random.chance(0.4);
    const mode = this.#random.chance(0.8) ? "hard" : "soft";
    const version = ++object.version;
    this.host.after(PUBLISH_MS, "purge", () => {
      if (!this.#control.host.isServing) return;
      const request: PurgeRequest = {
        propertyId: property.propertyId,
        urls: isByTag ? [] : [`http://${object.host}${object.target}`],
        tags: isByTag ? [object.tag] : [],
        mode,
      };
      this.#control.purge(request, ({ unacknowledged }) => {
        const isComplete = unacknowledged.length === 0;
        this.#stage.statistics.count("purge", isComplete ? `complete-${mode}` : "incomplete");
        if (isComplete && mode === "hard" && version > (object.purged?.version ?? 0))
          object.purged = { at: this.host.now, version };
      });
    });
  }
}
