/** Link fields (RFC 8288) that say what a client will need: preload, modulepreload, stylesheet, next. */
import { type Reference, ReferenceList, type ReferenceRole, type ReferenceScope } from "./reference.ts";

const ROLES: ReadonlyMap<string, ReferenceRole> = new Map([
  ["style", "style"],
  ["script", "script"],
  ["font", "font"],
  ["image", "image"],
  ["fetch", "fetch"],
]);

const MEMBERS_MAX = 64;
const MEMBER_CHARACTERS_MAX = 2_048;

/** In order; a member that is not a link is left out (RFC 8288, appendix B.2 reads leniently, this does not). */
export function linkReferences(lines: readonly string[], scope: ReferenceScope): readonly Reference[] {
  const list = new ReferenceList(scope);
  for (const member of lines.flatMap(links).slice(0, MEMBERS_MAX)) {
    if (member.length > MEMBER_CHARACTERS_MAX) continue;
    const match = /^\s*<([^<>]*)>([^]*)$/.exec(member);
    if (match === null) continue;
    const parameters = parametersOf(match[2] ?? "");
    // A link of another context is no word about this page (section 3.2).
    if (parameters.has("anchor")) continue;
    const relations = (parameters.get("rel") ?? "").toLowerCase().split(/\s+/);
    const role = relations.includes("stylesheet")
      ? "style"
      : relations.includes("modulepreload")
        ? "module"
        : relations.includes("preload")
          ? ROLES.get((parameters.get("as") ?? "").toLowerCase())
          : relations.includes("next")
            ? "document"
            : undefined;
    if (role !== undefined && !parameters.has("imagesrcset"))
      list.add(match[1], role, parameters.has("crossorigin"));
  }
  return list.take();
}

/** Parameters by lower-case name, the first of each (section 3.4: of `rel` no other counts). */
function parametersOf(text: string): ReadonlyMap<string, string> {
  const parameters = new Map<string, string>();
  for (const part of text.matchAll(
    /[ \t]*;[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64})(?:[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?/gy,
  )) {
    const name = (part[1] ?? "").toLowerCase();
    if (!parameters.has(name)) parameters.set(name, (part[2] ?? part[3] ?? "").replace(/\\(.)/g, "$1"));
  }
  return parameters;
}

/** The links of one line: split at commas outside of a target and of a quoted string. */
function links(line: string): readonly string[] {
  const members: string[] = [];
  let from = 0;
  let until = "";
  for (let index = 0; index < line.length && members.length < MEMBERS_MAX; index++) {
    const char = line[index] ?? "";
    if (until !== "") {
      if (char === "\\" && until === '"') index++;
      else if (char === until) until = "";
    } else if (char === "<") until = ">";
    else if (char === '"') until = '"';
    else if (char === ",") {
      members.push(line.slice(from, index));
      from = index + 1;
    }
  }
  members.push(line.slice(from));
  return members;
}
