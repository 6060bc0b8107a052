import { createHash } from 'node:crypto'

/**
 * The names of all that the log has in Redis. The number is that of the layout: replicas that know another one do not meet. A
 * stream's own keys share a hash tag.
 * @param prefix of the deployment, so that several can share a Redis
 */
export function redisKeys(prefix: string) {
  const base = `${prefix}:1`
  return {
    /** A hash: `epoch`, `began` (the event the epoch began after), `n` (the last event), `state`, `owner` and more. */
    meta: (id: string) => `${base}:{${id}}`,
    /** A stream: each entry is a batch of events, and its id the number of the last of them. */
    log: (id: string) => `${base}:{${id}}:log`,
    /** What the run of a live stream is to do, in its own words. */
    plan: (id: string) => `${base}:{${id}}:plan`,
    /** `<stream id> <fingerprint>`. Clients choose keys and aliases: hashed, they cannot be long or clash. */
    key: (key: string) => `${base}:key:${hash(key)}`,
    /** The id of the live stream of that name. */
    alias: (alias: string) => `${base}:alias:${hash(alias)}`,
    /** A set: replicas that may have streams. */
    replicas: `${base}:replicas`,
    /** Exists as long as the replica lives. */
    lease: (replica: string) => `${base}:replica:${replica}`,
    /** A set: the live streams that the replica owns. */
    owned: (replica: string) => `${base}:replica:${replica}:streams`,
    /** A channel: what other replicas have to say to this one. */
    inbox: (replica: string) => `${base}:replica:${replica}:inbox`,
  } as const
}

export type RedisKeys = ReturnType<typeof redisKeys>

function hash(text: string): string {
  return createHash('sha256').update(text).digest('base64url')
}
