import type { StoreHealth } from '../../core/ports.ts'
import type { OwnedLog } from './owned.ts'

/** @param up commands can be sent */
export function healthOf(up: boolean, owned: Iterable<OwnedLog>): StoreHealth {
  const streams = { through: 0, behind: 0, apart: 0, fenced: 0 }
  let unsentEvents = 0
  for (const { state, stored, memory } of owned) {
    streams[state]++
    if (state === 'behind') unsentEvents += Math.max(0, memory.local.length - stored)
  }
  return { up, streams, unsentEvents }
}
