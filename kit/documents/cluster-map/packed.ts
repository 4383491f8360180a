import { base64Pieces, fromBase64, fromBase64InSteps } from "../../base64.ts";
import { ParseError, type Path, type Schema } from "../../schema.ts";
import { allSteps, type Steps } from "../../steps.ts";
import { TextPieces } from "../../text-pieces.ts";
import type { ClientNetworkTable } from "./client-network-table.ts";
import type { ClusterMapTable } from "./cluster-map-table.ts";
import {
  CLUSTER_MAP_BYTES_MAX,
  clusterMapVersionOf,
  decodeClusterMap,
  decodeInSteps,
  encodeInSteps,
} from "./codec.ts";

const TEXT_MAX = Math.ceil(CLUSTER_MAP_BYTES_MAX / 3) * 4;

/**
 * The cluster map within a snapshot: a table, its bytes, or one text of base64, each made of the others when it is first wanted. Whoever
 * takes no decision from it (control, edges, the portal) carries the text on and never decodes it. Immutable.
 */
export class PackedClusterMap {
  readonly #path: Path;
  #text: string | TextPieces | undefined;
  #bytes: Uint8Array | undefined;
  #table: ClusterMapTable | undefined;

  private constructor(
    path: Path,
    form: { text?: string | TextPieces; bytes?: Uint8Array; table?: ClusterMapTable },
  ) {
    this.#path = path;
    this.#text = form.text;
    this.#bytes = form.bytes;
    this.#table = form.table;
  }

  static of(table: ClusterMapTable): PackedClusterMap {
    return new PackedClusterMap([], { table });
  }

  /** For who has just made the one of the other. */
  static ofBoth(table: ClusterMapTable, bytes: Uint8Array, path: Path = []): PackedClusterMap {
    return new PackedClusterMap(path, { table, bytes });
  }

  /** Throws ParseError when the bytes do not begin as a map does; the rest is looked at by `table`. */
  static ofBytes(bytes: Uint8Array, path: Path = []): PackedClusterMap {
    clusterMapVersionOf(bytes, path);
    return new PackedClusterMap(path, { bytes });
  }

  /** Throws ParseError when the text does not begin as a map does; the rest is looked at by `bytes` and `table`. */
  static ofText(text: string | TextPieces, path: Path = []): PackedClusterMap {
    if (text.length > TEXT_MAX)
      throw new ParseError(path, `${text.length} characters`, `at most ${TEXT_MAX}`);
    const first = headOf(text);
    const head = fromBase64(first);
    if (head === undefined) throw new ParseError(path, first, "base64");
    clusterMapVersionOf(head, path);
    return new PackedClusterMap(path, { text });
  }

  /** The version that it names, which is the snapshot's. */
  get mapVersion(): number {
    return this.#table?.mapVersion ?? clusterMapVersionOf(this.#bytes ?? this.#headBytes(), this.#path);
  }

  /** Whether `table` costs nothing any more. */
  get isDecoded(): boolean {
    return this.#table !== undefined;
  }

  /**
   * The map, wholly checked. Throws ParseError with the place and what was expected there.
   *
   * @param known client networks of the map in force, to be used again if they are the same
   */
  table(known?: ClientNetworkTable): ClusterMapTable {
    this.#table ??= decodeClusterMap(this.bytes(), this.#path, known);
    return this.#table;
  }

  /** The same map under another version. Throws ParseError as `table` does. */
  withVersion(mapVersion: number): PackedClusterMap {
    return PackedClusterMap.of(this.table().withVersion(mapVersion));
  }

  /** As `table`, in steps of a few milliseconds. */
  *tableInSteps(known?: ClientNetworkTable): Steps<ClusterMapTable> {
    this.#table ??= yield* decodeInSteps(yield* this.bytesInSteps(), this.#path, known);
    return this.#table;
  }

  /** Throws ParseError when the text is not base64. */
  bytes(): Uint8Array {
    return allSteps(this.bytesInSteps());
  }

  /** As `bytes`, in steps of a few milliseconds. */
  *bytesInSteps(): Steps<Uint8Array> {
    if (this.#bytes === undefined && this.#table !== undefined)
      this.#bytes = yield* encodeInSteps(this.#table);
    if (this.#bytes === undefined) {
      const bytes = yield* fromBase64InSteps(this.#text ?? "");
      if (bytes === undefined) throw new ParseError(this.#path, "a text", "base64");
      this.#bytes = bytes;
    }
    return this.#bytes;
  }

  /** What stands in the document. */
  toJSON(): string {
    this.#text ??= [...base64Pieces(this.bytes())].join("");
    return typeof this.#text === "string" ? this.#text : this.#text.toJSON();
  }

  /** As JSON has it, piece by piece; an empty piece is a pause. */
  *jsonPieces(): Generator<string, undefined> {
    if (this.#text instanceof TextPieces) {
      yield* this.#text.jsonPieces();
      return;
    }
    const steps = this.bytesInSteps();
    let step = steps.next();
    for (; step.done !== true; step = steps.next()) yield "";
    yield '"';
    yield* base64Pieces(step.value);
    yield '"';
  }

  #headBytes(): Uint8Array {
    return fromBase64(headOf(this.#text ?? "")) ?? new Uint8Array(0);
  }
}

function headOf(text: string | TextPieces): string {
  return typeof text === "string" ? text.slice(0, HEAD_TEXT) : text.head(HEAD_TEXT);
}

/** Characters of base64 that hold the head and more. */
const HEAD_TEXT = 64;

/** Takes a text of base64, or a map that is packed already. */
export const packedClusterMap: Schema<PackedClusterMap> = {
  parse: (value, path = []) => {
    if (value instanceof PackedClusterMap) return value;
    if (typeof value !== "string" && !(value instanceof TextPieces))
      throw new ParseError(path, value, "a cluster map in base64");
    return PackedClusterMap.ofText(value, path);
  },
  jsonSchema: () => ({ type: "string", contentEncoding: "base64", maxLength: TEXT_MAX }),
};
