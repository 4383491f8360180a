/** Real text of a site, from packages whose versions the lock file pins, and pairs of versions of scripts. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

const PACKAGES = join(import.meta.dirname, "..", "..", "..", "node_modules");
const fromPackage = (path: string): Buffer => readFileSync(join(PACKAGES, path));

export interface Text {
  readonly type: string;
  readonly note: string;
  readonly read: () => Buffer;
}

export const TEXTS: Readonly<Record<string, Text>> = {
  script: {
    type: "text/javascript",
    note: "uplot, minified",
    read: () => fromPackage("uplot/dist/uPlot.iife.min.js"),
  },
  style: {
    type: "text/css",
    note: "bootstrap.min.css",
    read: () => fromPackage("http-cache-tests/spec/bootstrap.min.css"),
  },
  page: {
    type: "text/html",
    note: "a specification, HTML",
    read: () => fromPackage("http-cache-tests/spec/cache.html"),
  },
  json: {
    type: "application/json",
    note: "borders of countries, TopoJSON",
    read: () => fromPackage("world-atlas/countries-110m.json"),
  },
};

export interface VersionPair {
  readonly note: string;
  readonly read: () => { readonly old: Buffer; readonly next: Buffer };
}

/** Two versions of a script each, as a browser that comes back meets them. */
export const VERSIONS: Readonly<Record<string, VersionPair>> = {
  "uplot-edited": {
    note: "uplot, not minified, another version number and one function more",
    read: () => {
      const old = fromPackage("uplot/dist/uPlot.iife.js");
      const text = old.toString();
      const end = text.lastIndexOf("\treturn uPlot;");
      const added =
        "\tfunction clampRange(min, max, low, high) {\n\t\treturn [Math.max(min, low), Math.min(max, high)];\n\t}\n\n";
      const next = `${text.slice(0, end)}${added}${text.slice(end)}`;
      return { old, next: Buffer.from(next.replace(/v\d+\.\d+\.\d+/, "v99.0.0")) };
    },
  },
  "fast-uri": {
    note: "fast-uri, one major version to the next",
    read: () => ({
      old: fromPackage("ajv/node_modules/fast-uri/index.js"),
      next: fromPackage("fast-uri/index.js"),
    }),
  },
  picomatch: {
    note: "picomatch's parser, two major versions apart",
    read: () => ({
      old: fromPackage("@prefresh/vite/node_modules/picomatch/lib/parse.js"),
      next: fromPackage("picomatch/lib/parse.js"),
    }),
  },
};
