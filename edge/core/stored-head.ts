/** What is kept of a response beside its content (RFC 9111, section 3.1). */
import type { ExchangeTimes, RequestHead, ResponseHead, StoredHead } from "./messages.ts";
import { storedFields } from "./storable.ts";
import { tagsOf } from "./tags.ts";
import { nominatedFields, nominatedValues } from "./vary.ts";

/** The head of a response as it is stored (section 3.1). The response's fields are end-to-end ones already. */
export function storedHead(
  request: RequestHead,
  response: ResponseHead,
  times: ExchangeTimes,
  generation: number,
): StoredHead {
  const names = nominatedFields(response.fields);
  const nominated = names === "any" ? [] : names;
  return {
    status: response.status,
    fields: storedFields(response.fields),
    requestTime: times.requestTime,
    responseTime: times.responseTime,
    nominatedFields: nominated,
    nominatedValues: nominatedValues(request.fields, nominated),
    generation,
    tags: tagsOf(response.fields),
    isInvalidated: false,
    sliced: null,
    part: null,
  };
}
