/** Carries out what `TargetTests` says: bounded in number, and to no address that its operator has not permitted. */
import { type Clock, epochMs, type PolicyDocument, type PolicyOpinions, type TopologyDocument } from "#kit";
import type { Logger } from "#kit/io";
import {
  groundOf,
  permittedPolicy,
  type TestGround,
  type TestRefusal,
} from "../../core/target-tests/permission.ts";
import { TargetTests, type TestProbe } from "../../core/target-tests/target-tests.ts";
import { askHttp } from "./http-test.ts";
import { askDns, askTcp, runScript } from "./other-tests.ts";

/** Tests under way at once, any of which may be a process; the others wait their turn. */
const UNDER_WAY_MAX = 32;
/** A test that is not carried out is asked about again so often. */
const TURN_MS_MIN = 5;
/** Results that come within so long are told together, ms: whoever is told weighs all that agents say. */
const TELL_MS = 100;
/** Refusals that are told once. */
const TOLD_MAX = 10_000;

export class TargetTester {
  readonly #tests: TargetTests;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #scriptsDirectory: string | undefined;
  readonly #onResult: () => void;
  readonly #told = new Set<string>();
  #ground: TestGround | undefined;
  #policies: readonly PolicyDocument[] = [];
  #underWay = 0;
  #timer: NodeJS.Timeout | undefined;
  #telling: NodeJS.Timeout | undefined;
  #isClosed = false;
  readonly counters = { ok: 0, failed: 0, refused: 0, loads: 0, loadsFailed: 0 };

  constructor(options: {
    readonly clock: Clock;
    readonly logger: Logger;
    /** Where the programs of script tests lie; undefined: none is run. */
    readonly scriptsDirectory: string | undefined;
    /** Opinions may be others than before; told within a tenth of a second. */
    readonly onResult: () => void;
  }) {
    const { clock } = options;
    const offsetMs = clock.epoch() - clock.monotonic();
    this.#tests = new TargetTests((at) => epochMs(Math.round(at + offsetMs)));
    this.#clock = clock;
    this.#logger = options.logger;
    this.#scriptsDirectory = options.scriptsDirectory;
    this.#onResult = options.onResult;
  }

  /** Where tests may go follows from it; without one nothing is tested. */
  setTopology(topology: TopologyDocument): void {
    this.#ground = groundOf(topology, this.#scriptsDirectory);
    this.#use();
  }

  /** Replaces what is tested: everything that may be. What may not stays unknown, and is told once. */
  setPolicies(policies: readonly PolicyDocument[]): void {
    this.#policies = policies;
    this.#use();
  }

  #use(): void {
    const ground = this.#ground;
    if (ground === undefined || this.#isClosed) return;
    const onRefused = ({ policyId, what }: TestRefusal): void => {
      this.counters.refused++;
      const key = `${policyId} ${what}`;
      if (this.#told.has(key)) return;
      if (this.#told.size > TOLD_MAX) this.#told.clear();
      this.#told.add(key);
      this.#logger.warn("policy-test-refused", { policy: policyId, what });
    };
    this.#tests.setPolicies(
      this.#policies.flatMap((policy) => permittedPolicy(policy, ground, onRefused) ?? []),
      this.#clock.monotonic(),
    );
    this.#turn();
  }

  opinions(): PolicyOpinions {
    return this.#tests.opinions();
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#telling);
  }

  #tell(): void {
    this.#telling ??= setTimeout(() => {
      this.#telling = undefined;
      this.#onResult();
    }, TELL_MS);
  }

  #turn(): void {
    if (this.#isClosed) return;
    const now = this.#clock.monotonic();
    while (this.#underWay < UNDER_WAY_MAX) {
      const probe = this.#tests.pollTransmit(now);
      if (probe === undefined) break;
      void this.#carryOut(probe);
    }
    clearTimeout(this.#timer);
    const dueAt = this.#tests.pollTimeout(now);
    if (dueAt === undefined) return;
    // With no room for more, results make the next turn; time-outs must be seen all the same.
    const delayMs = Math.max(this.#underWay < UNDER_WAY_MAX ? TURN_MS_MIN : 100, Math.ceil(dueAt - now));
    // Results that have arrived already are read before this timer's callback acts on time-outs.
    this.#timer = setTimeout(() => setImmediate(() => this.#expire()), delayMs);
  }

  #expire(): void {
    if (this.#isClosed) return;
    this.#tests.handleTimeout(this.#clock.monotonic());
    this.#tell();
    this.#turn();
  }

  async #carryOut(probe: TestProbe): Promise<void> {
    this.#underWay++;
    if (probe.kind === "load") {
      const load = await loadOf(probe);
      this.counters[load === undefined ? "loadsFailed" : "loads"]++;
      this.#tests.handleLoad(probe, load);
    } else {
      const isOk = await this.#ask(probe);
      this.counters[isOk ? "ok" : "failed"]++;
      this.#tests.handleResult(probe, isOk, this.#clock.monotonic());
    }
    this.#underWay--;
    if (this.#isClosed) return;
    this.#tell();
    this.#turn();
  }

  async #ask({ address, timeoutMs, test }: Extract<TestProbe, { kind: "test" }>): Promise<boolean> {
    switch (test.kind) {
      case "http":
      case "https": {
        const { kind, port, host, path, statuses, bodyContains } = test;
        const said = await askHttp({ address, port, isHttps: kind === "https", host, path, timeoutMs });
        return (
          said !== undefined &&
          statuses.includes(said.status) &&
          (bodyContains === undefined || said.body.includes(bodyContains))
        );
      }
      case "tcp":
        return askTcp(address, test.port, timeoutMs);
      case "dns":
        return askDns(address, test.port, test.name, test.type, timeoutMs);
      case "script": {
        return (
          this.#scriptsDirectory !== undefined &&
          runScript(this.#scriptsDirectory, test.script, address, timeoutMs)
        );
      }
      default:
        return test satisfies never;
    }
  }
}

/** A number, or an object with one under `load`; undefined: neither. */
async function loadOf(probe: Extract<TestProbe, { kind: "load" }>): Promise<number | undefined> {
  const { address, timeoutMs, feedback } = probe;
  const said = await askHttp({ ...feedback, address, port: feedback.port, timeoutMs });
  if (said?.status !== 200) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(said.body);
  } catch {
    return undefined;
  }
  if (typeof value === "object" && value !== null && "load" in value) value = value.load;
  return typeof value === "number" && Number.isFinite(value) && value >= 0 && value <= 1e15
    ? value
    : undefined;
}
