/** Characters of a long text in one piece: under a millisecond of work. */
const PIECE_CHARACTERS = 2 ** 18;
/** Objects below so many others are written whole: what is large in a document is a text near its top. */
const DEPTH_MAX = 4;

/**
 * What JSON.stringify makes of `value`, in pieces: a document whose map is one text of thirty million characters held a process for
 * 150 ms when it was written to the disk. `value` must be something that JSON can say.
 */
export function* jsonPieces(value: unknown, depth = 0): Generator<string, undefined> {
  if (typeof value === "string" && value.length > PIECE_CHARACTERS) {
    yield '"';
    // A pair of surrogates that is cut is written as two escapes, which are read as the same pair.
    for (let at = 0; at < value.length; at += PIECE_CHARACTERS)
      yield JSON.stringify(value.slice(at, at + PIECE_CHARACTERS)).slice(1, -1);
    yield '"';
    return;
  }
  if (isInPieces(value)) {
    yield* value.jsonPieces();
    return;
  }
  if (typeof value === "object" && value !== null && !("toJSON" in value) && depth < DEPTH_MAX) {
    if (Array.isArray(value)) {
      yield* listPieces(value);
      return;
    }
  } else {
    yield JSON.stringify(value);
    return;
  }
  let before = "{";
  for (const [key, member] of Object.entries(value)) {
    if (member === undefined) continue;
    yield `${before}${JSON.stringify(key)}:`;
    yield* jsonPieces(member, depth + 1);
    before = ",";
  }
  yield before === "{" ? "{}" : "}";
}

/** What writes itself piece by piece; it has a toJSON that says the same. */
function isInPieces(value: unknown): value is { jsonPieces(): Iterable<string> } {
  return typeof value === "object" && value !== null && "jsonPieces" in value;
}

/** Elements of a list that are written at once. */
const LIST_STEP = 256;

function* listPieces(list: readonly unknown[]): Generator<string, undefined> {
  if (list.length <= LIST_STEP) {
    yield JSON.stringify(list);
    return;
  }
  for (let at = 0; at < list.length; at += LIST_STEP)
    yield `${at === 0 ? "[" : ","}${JSON.stringify(list.slice(at, at + LIST_STEP)).slice(1, -1)}`;
  yield "]";
}
