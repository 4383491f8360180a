/** RFC 9110, section 5.6.2: the name of a field. */
export const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
