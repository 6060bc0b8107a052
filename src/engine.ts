import { setFlagsFromString } from 'node:v8'

/**
 * To be called before any stream begins. V8 makes objects of a place in the code as old ones when it once saw that most of
 * them live on, as those of streams do whenever there are many; from then on each keeps what it points to until the next
 * full collection. Streams of 10 deltas: 7,000 a second with this, 5,000 without.
 */
export function tuneEngine(): void {
  setFlagsFromString('--no-allocation-site-pretenuring')
}
