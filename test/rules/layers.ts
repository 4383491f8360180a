/**
 * The layer table: who may import whom (DESIGN of the house, ARCHITECTURE.md). The table is data and the checker is pure
 * over file contents, so that a test can plant a break and see it found.
 *
 * The longest `files` prefix that matches a path is its row. Imports inside `own` are free; everything else must be named.
 */
import { posix } from "node:path";
import { parseSync } from "vite";

/** Every room that has a face (`mod.ts`) and a page (`README.md`). */
export const ROOMS = [
  "kit",
  "mapping",
  "edge",
  "transport",
  "control",
  "analytics",
  "portal",
  "sim",
  "origin-sim",
] as const;

/** Everything that may lie at the top level, besides names that begin with a dot. */
export const TOP_LEVEL: readonly string[] = [
  ...ROOMS,
  "cli",
  "test",
  "deploy",
  "node_modules",
  "coverage",
  "package.json",
  "package-lock.json",
  "tsconfig.json",
  "biome.json",
  "knip.json",
  "vitest.config.ts",
  "README.md",
  "ARCHITECTURE.md",
  "CONTRIBUTING.md",
  "CHANGELOG.md",
  "LICENSE",
];

/** One row of the table. */
export interface Layer {
  /** Prefix of the paths that this row is for; `*` stands for one room. */
  readonly files: string;
  /** Path prefixes that these files may import from by relative path; `*` stands for the importing file's own room. */
  readonly own: readonly string[];
  /** Path prefixes taken out of `own` again. */
  readonly except?: readonly string[];
  /** Faces (package.json `imports`) that these files may import. */
  readonly faces: readonly string[];
  /** Faces of which only types may be imported. */
  readonly typeFaces?: readonly string[];
  /** What may come from outside the tree: nothing, the named packages, any package but no `node:*`, or anything. */
  readonly outside: "nothing" | "packages" | "anything" | readonly string[];
  /** Whether packages that are only devDependencies count as well. */
  readonly mayUseDevDependencies?: boolean;
  /** Whether `import(expression)` with a computed name is allowed; the checker cannot see where it leads. */
  readonly mayCompute?: boolean;
}

const KIT = ["#kit", "#kit/io", "#kit/world"];
const CLIENTS = [...KIT, "#transport", "#control", "#analytics"];
const EVERY = [...CLIENTS, "#mapping", "#edge", "#portal", "#sim", "#origin-sim"];
const CORES = ROOMS.map((room) => `${room}/core/`);
/** `edge/main.ts`, `mapping/main-dns.ts`: the processes, which the command starts and nobody else names. */
const PROCESSES = ROOMS.map((room) => `${room}/main`);

export const LAYERS: readonly Layer[] = [
  { files: "kit/", own: ["kit/"], except: ["kit/io/"], faces: [], outside: "nothing" },
  { files: "kit/hash.ts", own: ["kit/"], except: ["kit/io/"], faces: [], outside: ["xxhash-wasm"] },
  { files: "kit/world/", own: ["kit/"], except: ["kit/io/"], faces: ["#kit"], outside: ["yaml"] },
  { files: "kit/io/", own: ["kit/"], faces: ["#kit", "#kit/world"], outside: "anything" },

  { files: "*/core/", own: ["*/core/"], faces: ["#kit"], typeFaces: ["#kit/world"], outside: "nothing" },

  { files: "transport/", own: ["*/"], faces: KIT, outside: "anything" },
  // The relay's process reads its documents from control; transport's face must not, since control's driver takes our dial.
  { files: "transport/main.ts", own: ["*/"], faces: [...KIT, "#control"], outside: "anything" },
  { files: "origin-sim/", own: ["*/"], faces: KIT, outside: "anything" },
  { files: "control/", own: ["*/"], faces: [...KIT, "#transport"], outside: "anything" },
  { files: "analytics/", own: ["*/"], faces: [...KIT, "#transport", "#control"], outside: "anything" },
  { files: "portal/", own: ["*/"], faces: [...KIT, "#transport", "#control"], outside: "anything" },
  // What a browser runs: no driver of ours, nothing of Node's.
  { files: "portal/web/", own: ["portal/web/", "portal/core/"], faces: ["#kit"], outside: "packages" },
  // The two data paths never import each other: they meet on documents whose shapes live in the kit.
  { files: "edge/", own: ["*/"], faces: CLIENTS, outside: "anything" },
  { files: "mapping/", own: ["*/"], faces: CLIENTS, outside: "anything" },

  { files: "sim/", own: ["*/", ...CORES], faces: EVERY, outside: "anything" },
  {
    files: "cli/",
    own: ["*/", "package.json", ...CORES, ...PROCESSES],
    faces: EVERY,
    outside: "anything",
    mayCompute: true,
  },
  {
    files: "test/",
    own: ["*/", "cli/", "kit/", "package.json", ...CORES],
    faces: EVERY,
    outside: "anything",
    mayUseDevDependencies: true,
    mayCompute: true,
  },
];

/** One import of a file, as written. */
export interface ImportOf {
  /** As written; undefined for a computed dynamic import. */
  readonly specifier: string | undefined;
  readonly isTypeOnly: boolean;
  /** 1-based. */
  readonly line: number;
}

/** A syntax node as the parser hands it over: a type and fields that are nodes, lists of nodes or plain values. */
type Node = Readonly<Record<string, unknown>> & { readonly type: string; readonly start: number };

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && "type" in value && typeof value.type === "string";
}

/**
 * Every way in which a module names another: static, re-exported, dynamic and `import("...")` in a type.
 *
 * @throws Error when the source does not parse: a file that cannot be read must not pass.
 */
export function importsOf(path: string, source: string): ImportOf[] {
  const { program, errors } = parseSync(path, source);
  if (errors[0] !== undefined) throw new Error(`Cannot parse "${path}": ${errors[0].message}`);
  const found: ImportOf[] = [];
  const visit = (value: unknown): void => {
    if (Array.isArray(value)) {
      for (const item of value) visit(item);
      return;
    }
    if (!isNode(value)) return;
    const record = (named: unknown, isTypeOnly: boolean): void => {
      const specifier = isNode(named) && typeof named["value"] === "string" ? named["value"] : undefined;
      found.push({ specifier, isTypeOnly, line: source.slice(0, value.start).split("\n").length });
    };
    switch (value.type) {
      case "ImportDeclaration":
        record(value["source"], value["importKind"] === "type");
        break;
      case "ExportNamedDeclaration":
      case "ExportAllDeclaration":
        if (isNode(value["source"])) record(value["source"], value["exportKind"] === "type");
        break;
      case "ImportExpression":
        record(value["source"], false);
        break;
      case "TSImportType":
        record(value["source"] ?? value["argument"], true);
        break;
      default:
        break;
    }
    for (const child of Object.values(value)) if (typeof child === "object") visit(child);
  };
  visit(program);
  return found;
}

/** The row of the table that a path belongs to, or undefined when it has none (and so may not hold code). */
export function layerOf(path: string): Layer | undefined {
  const [room = ""] = path.split("/");
  let best: Layer | undefined;
  for (const layer of LAYERS) {
    const prefix = layer.files.replace("*", room);
    if (path.startsWith(prefix) && prefix.length > (best?.files.replace("*", room).length ?? 0)) best = layer;
  }
  return best;
}

/** The names in package.json that the checker needs. */
export interface Manifest {
  readonly imports: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

/** Says what is wrong with one import, or undefined when the table allows it. */
function fault(path: string, layer: Layer, found: ImportOf, manifest: Manifest): string | undefined {
  const { specifier, isTypeOnly } = found;
  if (specifier === undefined) {
    return layer.mayCompute === true ? undefined : "computes the name of an import, so no rule can see it";
  }
  const [room = ""] = path.split("/");
  if (specifier.startsWith("./") || specifier.startsWith("../")) {
    const target = posix.join(posix.dirname(path), specifier);
    const isOwn = layer.own.some((prefix) => target.startsWith(prefix.replace("*", room)));
    const isTakenOut = layer.except?.some((prefix) => target.startsWith(prefix)) ?? false;
    return isOwn && !isTakenOut ? undefined : `reaches ${target} by path`;
  }
  if (specifier.startsWith("#")) {
    if (!(specifier in manifest.imports)) return `imports ${specifier}, which package.json does not name`;
    if (layer.faces.includes(specifier)) return undefined;
    if (layer.typeFaces?.includes(specifier) === true) {
      return isTypeOnly ? undefined : `imports more than types (import type) from ${specifier}`;
    }
    return `imports ${specifier}`;
  }
  if (specifier.startsWith("node:")) {
    return layer.outside === "anything" ? undefined : `imports ${specifier}`;
  }
  const packageName = specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
  const isNamed = Array.isArray(layer.outside) && layer.outside.includes(packageName);
  if (layer.outside === "nothing" || (Array.isArray(layer.outside) && !isNamed)) {
    return `imports the package ${packageName}`;
  }
  const isInstalled =
    packageName in manifest.dependencies ||
    ((layer.mayUseDevDependencies === true || isTypeOnly) && packageName in manifest.devDependencies);
  return isInstalled ? undefined : `imports ${packageName}, which is not in package.json "dependencies"`;
}

/**
 * Checks one file against the table.
 *
 * @param path relative to the root, with forward slashes
 * @returns one line a break, `path:line: what`; empty when the file keeps the table
 */
export function breaksOf(path: string, source: string, manifest: Manifest): string[] {
  const layer = layerOf(path);
  if (layer === undefined)
    return [`${path}:1: no row of test/rules/layers.ts says what this file may import`];
  return importsOf(path, source).flatMap((found) => {
    const what = fault(path, layer, found, manifest);
    return what === undefined
      ? []
      : [`${path}:${found.line}: ${what}, which the row "${layer.files}" refuses`];
  });
}
