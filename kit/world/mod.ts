/** `#kit/world`: a world file read strictly, and what follows from it - addresses, documents, links. */
export {
  type AddressPlan,
  type AddressPlanOptions,
  type Endpoint,
  type PlannedProcess,
  type PlannedServer,
  planAddresses,
  propertiesOf,
  topologyOf,
} from "./address-plan.ts";
export { type GenerateOptions, generateWorld } from "./generate.ts";
export { worldJsonSchema } from "./json-schema.ts";
export { type LinkProperties, WorldLinks } from "./links.ts";
export { parseWorld, parseYaml, WORLD_TEXT_LENGTH_MAX, WorldError } from "./parse-world.ts";
export {
  type ContentKind,
  contentKinds,
  type LinkModel,
  type World,
  type WorldClientNetwork,
  type WorldCluster,
  type WorldCustomer,
  type WorldProperty,
} from "./world.ts";
