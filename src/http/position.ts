import { SluiceError } from '../core/errors.ts'
import { isTerminal, type TerminalEvent } from '../core/events.ts'
import type { StreamLog } from '../core/ports.ts'
import { parsePosition } from '../core/position.ts'
import { countFrames } from '../delivery/count.ts'
import type { View } from './attach.ts'

/**
 * The frame a client wants to go on after: `Last-Event-ID`, else `?after=`; `undefined` when it named none.
 * @throws SluiceError `invalid_position` when it is malformed or of another stream
 */
export function requestedPosition(lastEventId: string | undefined, after: string | undefined, stream: string) {
  if (lastEventId !== undefined) {
    const position = parsePosition(lastEventId)
    if (position?.stream !== stream) throw new SluiceError('invalid_position')
    return position.n
  }
  if (after === undefined) return undefined
  if (!/^\d{1,15}$/.test(after)) throw new SluiceError('invalid_position')
  return Number(after)
}

/**
 * Whether something follows frame `after`.
 * @returns `'at end'` when the client has the terminal frame already
 * @throws SluiceError `invalid_position` beyond what the stream has sent, `resume_unavailable` beyond what is left of it
 */
export async function checkPosition(log: StreamLog, view: View): Promise<'behind' | 'at end'> {
  const { after = 0 } = view
  let { count, ended } = await standingOf(log, view)
  if (after > count) {
    // Elsewhere, more may have been read than had come here: then it is on its way.
    if (!(await log.caughtUp())) return 'behind'
    ;({ count, ended } = await standingOf(log, view))
  }
  if (after >= count && log.loss) throw log.loss
  if (after > count) throw new SluiceError((await wasCut(log, ended)) ? 'resume_unavailable' : 'invalid_position')
  return ended && after === count ? 'at end' : 'behind'
}

/** Its owner died: what it had sent and not stored is nowhere. */
async function wasCut(log: StreamLog, ended: TerminalEvent | undefined): Promise<boolean> {
  if (ended?.type === 'error' && ended.error.code === 'replica_lost') return true
  return (await log.history()).some((event) => event.type === 'recovery' && event.reason === 'replica_lost')
}

/** Both of one moment: a log may get its end between two looks. */
async function standingOf(log: StreamLog, view: View): Promise<{ count: number; ended: TerminalEvent | undefined }> {
  const ended = await log.terminal()
  if (ended) return { count: await finalCount(log, view), ended }
  const events = await log.history()
  const last = events.at(-1)
  return {
    count: await countFrames(view.format, events, view.smooth),
    ended: last && isTerminal(last) ? last : undefined,
  }
}

/** Counting folds the whole log: for a finished one, whose counts no longer change, once a format. */
const finalCounts = new WeakMap<StreamLog, Map<string, number>>()

async function finalCount(log: StreamLog, { format, smooth }: View): Promise<number> {
  const counts = finalCounts.get(log) ?? new Map<string, number>()
  finalCounts.set(log, counts)
  const key = `${format.name} ${smooth}`
  const known = counts.get(key)
  if (known !== undefined) return known
  const count = await countFrames(format, await log.history(), smooth)
  counts.set(key, count)
  return count
}
