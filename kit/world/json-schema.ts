import type { JsonSchema } from "#kit";
import { worldSchema } from "./world.ts";

/**
 * The shape of a world file as JSON Schema (draft 2020-12), for editors; `deploy/worlds/world.schema.json` is its text. The
 * laws that span a world (laws.ts) cannot be said in it.
 */
export function worldJsonSchema(): JsonSchema {
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Isochrone world",
    description:
      "A whole deployment in one file: sites, links, client networks, customers and their properties.",
    ...worldSchema.jsonSchema(),
  };
}
