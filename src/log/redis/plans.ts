/** What one stream's plan may take up in Redis, in bytes: it is sent in one piece, and others wait behind it. */
const maxPlanBytes = 8 * 1024 * 1024
/** The same for all live streams of one replica: Redis must not fill up with requests. */
const maxAllBytes = 64 * 1024 * 1024

/**
 * The room that the plans of a replica's live streams have in Redis. It is for durable ones alone: where readers may be
 * ahead of Redis nobody else could go on under the numbers that they have seen.
 */
export class PlanRoom {
  readonly #bytesOf = new Map<string, number>()
  #bytes = 0

  /** @returns the plan of that stream; empty when there is no room for it */
  admit(id: string, make: (() => string) | undefined): string {
    const plan = make?.() ?? ''
    const bytes = Buffer.byteLength(plan)
    if (bytes === 0 || bytes > maxPlanBytes || this.#bytes + bytes > maxAllBytes) return ''
    this.#bytesOf.set(id, bytes)
    this.#bytes += bytes
    return plan
  }

  /** Gives back the room of streams that are not live any more. */
  sweep(isLive: (id: string) => boolean): void {
    for (const [id, bytes] of this.#bytesOf) {
      if (isLive(id)) continue
      this.#bytesOf.delete(id)
      this.#bytes -= bytes
    }
  }
}
