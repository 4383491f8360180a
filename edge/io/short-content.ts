/** Content that is all here in one short piece. Who can writes it with its head; for everybody else it is read as any content is. */
export class ShortContent implements AsyncIterableIterator<Uint8Array> {
  #bytes: Uint8Array | undefined;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** All of it, once. */
  take(): Uint8Array | undefined {
    const bytes = this.#bytes;
    this.#bytes = undefined;
    return bytes;
  }

  next(): Promise<IteratorResult<Uint8Array>> {
    const value = this.take();
    return Promise.resolve(value === undefined ? { done: true, value } : { done: false, value });
  }
  return(): Promise<IteratorResult<Uint8Array>> {
    this.#bytes = undefined;
    return Promise.resolve({ done: true, value: undefined });
  }
  [Symbol.asyncIterator](): this {
    return this;
  }
}
