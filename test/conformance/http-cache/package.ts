/** The modules of http-cache-tests: they have no types, and only some of them are of use here. */
const root = new URL("./", import.meta.resolve("http-cache-tests/package.json"));

export const load = async <T>(module: string): Promise<T> => (await import(new URL(module, root).href)) as T;
