import { SluiceError } from '../core/errors.ts'
import { type ErrorEvent, isTerminal } from '../core/events.ts'
import type { StreamLog } from '../core/ports.ts'
import type { RunReport } from '../core/report.ts'
import { Ledger } from './ledger.ts'

/** Brings the log of a run that died with its replica to its end: what there is of the answer, and that it is no more. */
export async function endOrphan(log: StreamLog): Promise<RunReport> {
  const now = performance.now()
  const ledger = new Ledger(now - (Date.now() - log.createdAt.getTime()))
  const history = await log.history()
  for (const event of history) {
    if (event.type === 'start' || event.type === 'progress' || event.type === 'unknown' || isTerminal(event)) continue
    ledger.observe(event)
  }
  const [start] = history
  const failure = new SluiceError('replica_lost')
  const terminal: ErrorEvent = {
    type: 'error',
    error: failure.toPublic(),
    // Nothing of an answer is stored before some of its content is.
    partial: ledger.begun,
    usage: ledger.usage(),
    timing: ledger.timing(now),
  }
  await log.append([terminal])
  return {
    stream: log.id,
    requestId: null,
    model: start?.type === 'start' ? start.model : null,
    terminal,
    timing: terminal.timing,
    attempts: 0,
    failure,
    upstreamBytes: 0,
    upstreamRequestId: null,
  }
}
