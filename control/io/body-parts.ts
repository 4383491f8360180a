/**
 * Long bodies of the SQLite store: written in parts ahead of the version that they belong to, each part its own commit, since one write of 25 MB
 * with its synchronisation stops control for half a second. A body counts once a version has claimed it; what none has (a conflict, a
 * kill between two parts, a version that was pruned) goes in steps before the next one is written.
 */
import type { DatabaseSync } from "node:sqlite";
import type { Steps } from "#kit";
import type { DocumentKind } from "../core/words.ts";

/** Characters of one part; a shorter body has none and stands with its version. Writing this much is 5 to 10 ms of CPU. */
const PART_LENGTH = 1024 * 1024;

/** Made where they are missing, as `LATER` of store-sqlite.ts. */
export const bodyPartsTables = `
  CREATE TABLE IF NOT EXISTS uploads (
    upload INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT, id TEXT, version INTEGER
  ) STRICT;
  CREATE TABLE IF NOT EXISTS parts (
    upload INTEGER NOT NULL, part INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (upload, part)
  ) STRICT;
`;

export class BodyParts {
  readonly #database: DatabaseSync;
  readonly #underWay = new Set<number>();

  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  /** What the version claims that is appended next, in the same turn; undefined: the body is short. */
  *keepInSteps(bodyText: string): Steps<number | undefined> {
    yield* this.#dropInSteps();
    if (bodyText.length <= PART_LENGTH) return undefined;
    const upload = Number(this.#database.prepare("INSERT INTO uploads DEFAULT VALUES").run().lastInsertRowid);
    this.#underWay.add(upload);
    try {
      const write = this.#database.prepare("INSERT INTO parts (upload, part, body) VALUES (?, ?, ?)");
      for (let at = 0; at < bodyText.length; at += PART_LENGTH) {
        write.run(upload, at / PART_LENGTH, bodyText.slice(at, at + PART_LENGTH));
        yield;
      }
      return upload;
    } finally {
      this.#underWay.delete(upload);
    }
  }

  claim(upload: number, kind: DocumentKind, id: string, version: number): void {
    const { changes } = this.#database
      .prepare("UPDATE uploads SET kind = ?, id = ?, version = ? WHERE upload = ? AND kind IS NULL")
      .run(kind, id, version, upload);
    if (changes !== 1) throw new RangeError(`Upload ${upload} of ${kind}/${id} is gone, or has a version`);
  }

  /** The body of a version that stands in parts. */
  text(kind: DocumentKind, id: string, version: number): string {
    const rows = this.#database
      .prepare(
        "SELECT p.body FROM uploads u JOIN parts p ON p.upload = u.upload WHERE u.kind = ? AND u.id = ? AND u.version = ? ORDER BY p.part",
      )
      .all(kind, id, version);
    return rows.map((row) => String(row["body"])).join("");
  }

  *#dropInSteps(): Steps<void> {
    const unclaimed = this.#database
      .prepare(
        "SELECT upload FROM uploads u WHERE NOT EXISTS (SELECT 1 FROM versions v WHERE v.kind = u.kind AND v.id = u.id AND v.version = u.version)",
      )
      .all()
      .map((row) => Number(row["upload"]))
      .filter((upload) => !this.#underWay.has(upload));
    const drop = this.#database.prepare("DELETE FROM parts WHERE upload = ? AND part = ?");
    for (const upload of unclaimed) {
      const parts = this.#database.prepare("SELECT part FROM parts WHERE upload = ?").all(upload);
      for (const row of parts) {
        drop.run(upload, Number(row["part"]));
        yield;
      }
      this.#database.prepare("DELETE FROM uploads WHERE upload = ?").run(upload);
    }
  }
}
