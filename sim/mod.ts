/** The failover simulator's face: production cores under a virtual clock and network. */
export { type SimSettings, simDefaults } from "./config.ts";
export { type Fault, type FaultKind, faultKinds, faultSentences } from "./core/faults.ts";
export { type InvariantName, invariantSentences } from "./core/invariants.ts";
export { type FaultReport, formatReport, type SimReport, type Verdict } from "./core/report.ts";
export { productionCores, type SimCores } from "./cores.ts";
export { type SimOptions, simulate } from "./simulation.ts";
export { type DayOptions, simulateDay } from "./day/day.ts";
export type { DayReport } from "./day/figures.ts";
