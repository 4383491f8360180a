/**
 * What a server of the overlay wants of its kernel, judged from what the kernel says: nothing here asks or sets anything. What each
 * setting is worth is measured by `npm run lab -- kernel`.
 */

/** Our own routing table and the preference of the rules that lead into it. */
export const OVERLAY_TABLE = 7400;
const CONGESTION_CONTROL = "bbr";
const INITIAL_WINDOW_SEGMENTS = 32;
const RTO_MIN_MS = 40;

interface Sysctl {
  readonly name: string;
  readonly isOk: (found: string) => boolean;
  /** For a person. */
  readonly expected: string;
  /** What to write; a function of what stands there. */
  readonly value: (found: string) => string;
  readonly why: string;
}

const words = (text: string): string[] => text.split(/\s+/).filter((word) => word !== "");

function atLeast(name: string, least: number, why: string): Sysctl {
  return {
    name,
    isOk: (found) => Number(found) >= least,
    expected: `at least ${least}`,
    value: () => String(least),
    why,
  };
}

/** The third of three numbers, the limit that the kernel's own tuning may reach. */
function bufferLimit(name: string, bytes: number): Sysctl {
  return {
    name,
    isOk: (found) => Number(words(found)[2]) >= bytes,
    expected: `third number at least ${bytes}`,
    value: (found) => [...words(found).slice(0, 2), bytes].join(" "),
    why: "a window has to hold rate x distance: 1 Gbit/s over 100 ms are 12.5 MB",
  };
}

export const overlaySysctls: readonly Sysctl[] = [
  {
    name: "net.ipv4.tcp_slow_start_after_idle",
    isOk: (found) => found.trim() === "0",
    expected: "0",
    value: () => "0",
    why: "a warm connection that was quiet for a moment goes on at its rate instead of from ten segments",
  },
  {
    name: "net.ipv4.tcp_allowed_congestion_control",
    isOk: (found) => words(found).includes("bbr") && words(found).includes("cubic"),
    expected: "bbr and cubic among them",
    value: (found) => [...new Set([...words(found), "bbr", "cubic"])].join(" "),
    why: "only a control that is allowed can be chosen for a socket or, in a namespace, at all",
  },
  bufferLimit("net.ipv4.tcp_rmem", 16_777_216),
  bufferLimit("net.ipv4.tcp_wmem", 16_777_216),
  atLeast(
    "net.core.somaxconn",
    4_096,
    "a restart meets all clients at once; what does not fit here is dropped",
  ),
];

/** One of `ip -j route show`. */
export interface KernelRoute {
  readonly dst: string;
  readonly gateway?: string;
  readonly dev?: string;
  readonly prefsrc?: string;
  readonly scope?: string;
  readonly metric?: number;
  readonly type?: string;
  /** More than one next hop. */
  readonly nexthops?: unknown;
  readonly metrics?: readonly {
    readonly initcwnd?: number;
    readonly rto_min?: number;
    readonly congestion?: string;
  }[];
}

/** One of `ip -j rule show`. */
export interface KernelRule {
  readonly priority: number;
  readonly ipproto?: string;
  readonly sport?: number;
  readonly dport?: number;
  readonly table?: string;
}

/** What was read; undefined: it could not be. */
export interface KernelFacts {
  readonly sysctls: ReadonlyMap<string, string | undefined>;
  /** `net.ipv4.tcp_available_congestion_control`. */
  readonly availableControls: string | undefined;
  readonly families: readonly {
    readonly family: 4 | 6;
    readonly main: readonly KernelRoute[] | undefined;
    readonly overlay: readonly KernelRoute[] | undefined;
    readonly rules: readonly KernelRule[] | undefined;
  }[];
  /** Descriptors that this process may open. */
  readonly openFilesMax: number | undefined;
}

export interface KernelCheck {
  readonly name: string;
  readonly state: "ok" | "wrong" | "unknown";
  readonly found: string;
  readonly expected: string;
  readonly why: string;
  /** Commands that mend it; a line of advice where none of ours does. */
  readonly steps: readonly (readonly string[])[];
  readonly advice?: string;
}

const OPEN_FILES_MIN = 65_536;
const UNKNOWN = "cannot be read";

/** @param ports on which our servers listen for each other, 1..65535; none: routes and rules are not asked for */
export function checkKernel(facts: KernelFacts, ports: readonly number[]): KernelCheck[] {
  return [
    ...overlaySysctls.map((sysctl) => checkSysctl(sysctl, facts.sysctls.get(sysctl.name))),
    checkOpenFiles(facts.openFilesMax),
    ...(ports.length === 0 ? [] : [checkControl(facts.availableControls)]),
    ...(ports.length === 0
      ? []
      : facts.families.flatMap((one) => [checkRules(one, ports), checkRoutes(one)])),
  ];
}

/** What takes the overlay's rules and routes away again; sysctls stay. */
export function undoSteps(facts: KernelFacts): (readonly string[])[] {
  return facts.families.flatMap(({ family, rules, overlay }) => [
    ...(rules ?? []).filter(isOurs).map((rule) => ["ip", `-${family}`, "rule", "del", ...ruleWords(rule)]),
    ...((overlay ?? []).length === 0
      ? []
      : [["ip", `-${family}`, "route", "flush", "table", String(OVERLAY_TABLE)]]),
  ]);
}

function checkSysctl(sysctl: Sysctl, found: string | undefined): KernelCheck {
  const { name, expected, why } = sysctl;
  if (found === undefined) return { name, state: "unknown", found: UNKNOWN, expected, why, steps: [] };
  if (sysctl.isOk(found))
    return { name, state: "ok", found: words(found).join(" "), expected, why, steps: [] };
  const steps = [["sysctl", "-q", "-w", `${name}=${sysctl.value(found)}`]];
  return { name, state: "wrong", found: words(found).join(" "), expected, why, steps };
}

function checkOpenFiles(found: number | undefined): KernelCheck {
  return {
    name: "open files",
    state: found === undefined ? "unknown" : found >= OPEN_FILES_MIN ? "ok" : "wrong",
    found: found === undefined ? UNKNOWN : String(found),
    expected: `at least ${OPEN_FILES_MIN}`,
    why: "each connection is a descriptor, on both sides of a proxy",
    steps: [],
    advice: "LimitNOFILE= of the service, or ulimit -n before the start",
  };
}

function checkControl(found: string | undefined): KernelCheck {
  const isThere = found !== undefined && words(found).includes(CONGESTION_CONTROL);
  return {
    name: "bbr",
    state: found === undefined ? "unknown" : isThere ? "ok" : "wrong",
    found: found === undefined ? UNKNOWN : words(found).join(" "),
    expected: "bbr available",
    why: "over distance and loss it keeps its rate where cubic halves it at each loss",
    steps: found === undefined || isThere ? [] : [["modprobe", "tcp_bbr"]],
  };
}

type Family = KernelFacts["families"][number];

function isOurs(rule: KernelRule): boolean {
  return rule.table === String(OVERLAY_TABLE);
}

function ruleWords(rule: Pick<KernelRule, "sport" | "dport">): string[] {
  const end = rule.sport === undefined ? ["dport", String(rule.dport)] : ["sport", String(rule.sport)];
  const table = String(OVERLAY_TABLE);
  return ["ipproto", "tcp", ...end, "lookup", table, "pref", table];
}

/** A port by its rule's side: answers leave from it, requests go to it. */
function checkRules({ family, rules }: Family, ports: readonly number[]): KernelCheck {
  const name = `IPv${family} rules`;
  const expected = `tcp from and to port ${ports.join(", ")} by table ${OVERLAY_TABLE}, no other port`;
  const why = "the overlay's connections alone get its congestion control, those to users keep the machine's";
  if (rules === undefined) return { name, state: "unknown", found: UNKNOWN, expected, why, steps: [] };
  const ours = rules.filter(isOurs);
  const wanted = ports.flatMap((port) => [{ sport: port }, { dport: port }]);
  const isSame = (a: Pick<KernelRule, "sport" | "dport">, b: Pick<KernelRule, "sport" | "dport">): boolean =>
    a.sport === b.sport && a.dport === b.dport;
  const missing = wanted.filter((one) => !ours.some((rule) => rule.ipproto === "tcp" && isSame(rule, one)));
  const surplus = ours.filter((rule) => !wanted.some((one) => isSame(rule, one)));
  const steps = [
    ...missing.map((one) => ["ip", `-${family}`, "rule", "add", ...ruleWords(one)]),
    ...surplus.map((one) => ["ip", `-${family}`, "rule", "del", ...ruleWords(one)]),
  ];
  const found =
    steps.length === 0
      ? "all of them"
      : `${missing.length} of ${wanted.length} missing, ${surplus.length} too many`;
  return { name, state: steps.length === 0 ? "ok" : "wrong", found, expected, why, steps };
}

/** Every route of the main table has a twin in ours that differs in the overlay's metrics alone. */
function checkRoutes({ family, main, overlay }: Family): KernelCheck {
  const name = `IPv${family} routes`;
  const expected = `table ${OVERLAY_TABLE} as main, with ${metricWords().join(" ")}`;
  const why =
    "a first answer of 45 KB in one round trip, and a lost last segment asked for after 40 ms instead of 200";
  if (main === undefined || overlay === undefined)
    return { name, state: "unknown", found: UNKNOWN, expected, why, steps: [] };
  const copied = main.filter((route) => (route.type ?? "unicast") === "unicast");
  const several = copied.find((route) => route.nexthops !== undefined);
  if (several !== undefined)
    return {
      name,
      state: "unknown",
      found: `${several.dst} has several next hops, which are not copied`,
      expected,
      why,
      steps: [],
      advice: `copy it by hand: ip -${family} route replace table ${OVERLAY_TABLE} ${several.dst} nexthop ... ${metricWords().join(" ")}`,
    };
  const missing = copied.filter((route) => !overlay.some((one) => isTwin(route, one)));
  const stale = overlay.filter((one) => !copied.some((route) => routeKey(route) === routeKey(one)));
  const steps = [
    ...missing.map((route) => [
      "ip",
      `-${family}`,
      "route",
      "replace",
      ...routeWords(route),
      ...metricWords(),
    ]),
    ...stale.map((route) => ["ip", `-${family}`, "route", "del", ...routeWords(route)]),
  ];
  const found =
    steps.length === 0
      ? `${copied.length} as in main`
      : `${missing.length} of ${copied.length} missing or other, ${stale.length} stale`;
  return { name, state: steps.length === 0 ? "ok" : "wrong", found, expected, why, steps };
}

function metricWords(): string[] {
  return [
    "congctl",
    CONGESTION_CONTROL,
    "initcwnd",
    String(INITIAL_WINDOW_SEGMENTS),
    "rto_min",
    `${RTO_MIN_MS}ms`,
  ];
}

function routeWords(route: KernelRoute): string[] {
  return [
    "table",
    String(OVERLAY_TABLE),
    route.dst,
    ...(route.gateway === undefined ? [] : ["via", route.gateway]),
    ...(route.dev === undefined ? [] : ["dev", route.dev]),
    ...(route.gateway === undefined && route.scope === "link" ? ["scope", "link"] : []),
    ...(route.prefsrc === undefined ? [] : ["src", route.prefsrc]),
    ...(route.metric === undefined ? [] : ["metric", String(route.metric)]),
  ];
}

function routeKey(route: KernelRoute): string {
  return [route.dst, route.gateway, route.dev, route.prefsrc, route.metric].join("|");
}

function isTwin(route: KernelRoute, ours: KernelRoute): boolean {
  const metrics = Object.assign({}, ...(ours.metrics ?? [])) as NonNullable<KernelRoute["metrics"]>[number];
  return (
    routeKey(route) === routeKey(ours) &&
    metrics.congestion === CONGESTION_CONTROL &&
    metrics.initcwnd === INITIAL_WINDOW_SEGMENTS &&
    metrics.rto_min === RTO_MIN_MS
  );
}
