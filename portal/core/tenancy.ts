/**
 * What an account may see and change. The answer to "does it exist?" is the same for what is not there and for what
 * belongs to another customer, so that ids cannot be guessed.
 */
import type { PropertyDocument } from "#kit";
import type { Viewer } from "./wire.ts";

/** Whether a document of this customer exists for the viewer at all. */
export function maySee(viewer: Viewer, customerId: string): boolean {
  return viewer.customerId === null || viewer.customerId === customerId;
}

/** Which properties' traffic the viewer's numbers are made of. */
export function visibleProperties(viewer: Viewer, properties: Iterable<PropertyDocument>): Set<string> {
  const visible = new Set<string>();
  for (const property of properties)
    if (maySee(viewer, property.customerId)) visible.add(property.propertyId);
  return visible;
}

export interface OwnershipFault {
  readonly path: readonly (string | number)[];
  readonly value: unknown;
  readonly expected: string;
}

/**
 * A host name that a customer adds by itself: nobody has decided that it is that customer's, and it may be anybody's. Operators
 * add host names; a customer may drop them and take back what the property had.
 * @param granted host names that the property has or had
 */
export function hostnameFault(
  viewer: Viewer,
  document: PropertyDocument,
  granted: ReadonlySet<string>,
): OwnershipFault | undefined {
  if (viewer.customerId === null) return undefined;
  const index = document.hostnames.findIndex((name) => !granted.has(name));
  if (index === -1) return undefined;
  return {
    path: ["hostnames", index],
    value: document.hostnames[index],
    expected: `one of ${[...granted].slice(0, 5).join(", ")}${granted.size > 5 ? " ..." : ""}; an operator adds a new host name`,
  };
}

/** A new version must stay the same property of the same customer: neither can be given away by an edit, by nobody. */
export function ownershipFault(
  document: PropertyDocument,
  propertyId: string,
  customerId: string,
): OwnershipFault | undefined {
  if (document.propertyId !== propertyId) {
    return {
      path: ["propertyId"],
      value: document.propertyId,
      expected: `"${propertyId}": a property keeps its name`,
    };
  }
  if (document.customerId !== customerId) {
    return {
      path: ["customerId"],
      value: document.customerId,
      expected: `"${customerId}": a property keeps its customer`,
    };
  }
  return undefined;
}

/**
 * The first URL of a purge whose host is not one of the property's, by index; undefined: all are. A customer could
 * otherwise purge another one's objects by naming them under a property of its own.
 * @param hostOf reads the host name of an absolute URL, undefined when it is none
 */
export function foreignPurgeUrl(
  urls: readonly string[],
  hostnames: readonly string[],
  hostOf: (url: string) => string | undefined,
): number | undefined {
  const index = urls.findIndex((url) => {
    const host = hostOf(url);
    return host === undefined || !hostnames.includes(host);
  });
  return index === -1 ? undefined : index;
}
