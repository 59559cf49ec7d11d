/** Of one endpoint or URL: a little less than facts have in all, so that one that hangs is a fact itself and takes no other with it. */
export const EACH_TIMEOUT_MS = 4_000
