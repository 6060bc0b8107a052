import { randomFillSync } from 'node:crypto'

/** A call costs 8 µs, whether it asks for twelve bytes or for thousands. */
const pool = Buffer.allocUnsafeSlow(8_192)
let used = pool.length

/** Random bytes that nobody can guess and nobody gets twice, in base64url. */
export function randomText(bytes: number): string {
  if (used + bytes > pool.length) {
    randomFillSync(pool)
    used = 0
  }
  const text = pool.toString('base64url', used, used + bytes)
  // What has been given out is not for a dump of the memory to tell.
  pool.fill(0, used, used + bytes)
  used += bytes
  return text
}
