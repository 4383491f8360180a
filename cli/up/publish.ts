/** What the operator of a world tells control at the start: who is who, and the customers' properties. */
import type { PropertyDocument, TopologyDocument } from "#kit";
import type { ControlClient } from "#control";

const author = "world";

/**
 * Brings control to what the world file says. A property that a customer has changed since is left alone unless the
 * world file itself has changed: the newest word wins, and a restart is no word.
 * @returns `kind/id` of each document that was activated
 */
export async function publishWorld(
  client: ControlClient,
  topology: TopologyDocument,
  properties: readonly PropertyDocument[],
): Promise<string[]> {
  const activated: string[] = [];
  const publish = async (kind: "topology" | "property", id: string, body: unknown) => {
    const versions = await client.versions(kind, id);
    const newestOfWorld = versions.filter((one) => one.author === author).at(-1);
    if (newestOfWorld !== undefined) {
      const stored = await client.document(kind, id, newestOfWorld.version);
      if (stored !== undefined && JSON.stringify(stored.body) === JSON.stringify(body)) return;
    }
    await client.put(kind, id, body, {
      expectedVersion: versions.at(-1)?.version ?? 0,
      author,
      note: "from the world file",
      activate: true,
    });
    activated.push(`${kind}/${id}`);
  };
  await publish("topology", topology.name, topology);
  for (const property of properties) await publish("property", property.propertyId, property);
  return activated;
}
