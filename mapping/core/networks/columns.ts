type Column = Float64Array | Float32Array | Int32Array | Uint32Array | Uint16Array;

/** The same numbers with more room behind them. */
export function grown<A extends Column>(from: A, capacity: number): A {
  const to = new (from.constructor as new (length: number) => A)(capacity);
  to.set(from);
  return to;
}
