/** Where a mapper has its client networks from: the world, or a file that may be replaced while it runs. */
import { join } from "node:path";
import type { Logger } from "#kit/io";
import type { ClientNetworkInput } from "../core/cluster-map.ts";
import { clientNetworkInputs, type NetworkFile } from "../core/networks/network-file.ts";
import { readNetworkFile, writeNetworkFile } from "./network-file.ts";

/** The last good file, beside the documents of the node. */
const KEPT_NAME = "client-networks.ndjson.gz";

export interface NetworkSourceState {
  /** Null: the world's. */
  readonly file: string | null;
  readonly networks: number;
  /** When the file was made; null for the world's. */
  readonly createdAtEpochMs: number | null;
  /** Files taken and refused since the start. */
  readonly taken: number;
  readonly refused: number;
  /** Why the newest one was refused; null when it was taken. */
  readonly problem: string | null;
}

/** A file that cannot be read never replaces a good one, at a restart neither: the last good one is kept on the disk. */
export class ClientNetworkSource {
  readonly #file: string | undefined;
  readonly #keptFile: string;
  readonly #logger: Logger;
  readonly #onNetworks: (networks: readonly ClientNetworkInput[]) => void;
  #networks: readonly ClientNetworkInput[];
  #createdAtEpochMs: number | null = null;
  #taken = 0;
  #refused = 0;
  #problem: string | null = null;
  #reading: Promise<void> | undefined;
  #isAskedAgain = false;

  /** @param options.file undefined: the world's networks, for ever */
  constructor(options: {
    readonly file: string | undefined;
    readonly stateDirectory: string;
    readonly world: readonly ClientNetworkInput[];
    readonly logger: Logger;
    readonly onNetworks: (networks: readonly ClientNetworkInput[]) => void;
  }) {
    this.#file = options.file;
    this.#keptFile = join(options.stateDirectory, KEPT_NAME);
    this.#logger = options.logger;
    this.#networks = options.world;
    this.#onNetworks = options.onNetworks;
  }

  get networks(): readonly ClientNetworkInput[] {
    return this.#networks;
  }

  get state(): NetworkSourceState {
    return {
      file: this.#file ?? null,
      networks: this.#networks.length,
      createdAtEpochMs: this.#createdAtEpochMs,
      taken: this.#taken,
      refused: this.#refused,
      problem: this.#problem,
    };
  }

  /** To be called once, when the state directory is there. Rejects with IsochroneError when neither the file nor a kept one is good. */
  async start(): Promise<void> {
    if (this.#file === undefined) return this.#onNetworks(this.#networks);
    try {
      await this.#take(await readNetworkFile(this.#file));
    } catch (error) {
      this.#refuse(error);
      let kept: NetworkFile;
      try {
        kept = await readNetworkFile(this.#keptFile);
      } catch {
        throw error;
      }
      this.#apply(kept);
      this.#logger.info("client-networks-kept", { file: this.#keptFile, networks: kept.networks.length });
    }
  }

  /** Reads the file again. Never rejects; calls while it is being read lead to one more reading. False: there is no file. */
  reload(): boolean {
    if (this.#file === undefined) return false;
    if (this.#reading !== undefined) {
      this.#isAskedAgain = true;
      return true;
    }
    this.#reading = this.#reload(this.#file);
    return true;
  }

  /** Resolves when nothing is being read any more. */
  async settled(): Promise<void> {
    while (this.#reading !== undefined) await this.#reading;
  }

  async #reload(file: string): Promise<void> {
    do {
      this.#isAskedAgain = false;
      try {
        await this.#take(await readNetworkFile(file));
      } catch (error) {
        this.#refuse(error);
      }
    } while (this.#isAskedAgain);
    this.#reading = undefined;
  }

  async #take(file: NetworkFile): Promise<void> {
    this.#apply(file);
    this.#taken++;
    this.#problem = null;
    const { networks, createdAtEpochMs } = file;
    this.#logger.info("client-networks-taken", { file: this.#file, networks: networks.length });
    try {
      await writeNetworkFile(this.#keptFile, networks, createdAtEpochMs);
    } catch (error) {
      // In force all the same; a restart then has only the file itself.
      this.#logger.error("client-networks-not-kept", {
        error: error instanceof Error ? error.message : String(error),
      });
    }
  }

  #apply({ networks, createdAtEpochMs }: NetworkFile): void {
    const taken = clientNetworkInputs(networks);
    this.#onNetworks(taken);
    this.#networks = taken;
    this.#createdAtEpochMs = createdAtEpochMs;
  }

  #refuse(error: unknown): void {
    this.#refused++;
    this.#problem = error instanceof Error ? error.message : String(error);
    this.#logger.error("client-networks-refused", { problem: this.#problem });
  }
}
