/** What every name server under measurement looks like to the benchmark. */
import type { Deployment } from "./deployment.ts";

export interface RunningNameServer {
  readonly port: number;
  /** Roots of the process trees whose CPU time and memory are the server's. */
  readonly pids: readonly number[];
  stop(): Promise<void>;
}

export interface NameServer {
  readonly name: string;
  readonly form: string;
  /** What the form is, in one line. */
  readonly note: string;
  /** Whether answers follow the client's network; else all get the first cluster's servers. */
  readonly isMapped: boolean;
  /** Whether it decides names among targets: {@link Deployment.policies}. */
  readonly hasPolicies?: boolean;
  /** Processes that answer; 1 by default. */
  readonly workers?: number;
  /** Its program, or undefined where that is missing. */
  readonly program: string | undefined;
  version(): Promise<string>;
  start(deployment: Deployment, port: number): Promise<RunningNameServer>;
}
