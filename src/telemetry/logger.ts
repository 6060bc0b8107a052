import type { EventEmitter } from 'node:events'
import { type DestinationStream, destination, type Logger, type LoggerOptions, pino } from 'pino'
import { describeFault } from '../core/errors.ts'
import type { RunReport } from '../core/report.ts'

export const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const
export type LogLevel = (typeof logLevels)[number]

/** When nobody takes stdout, lines are dropped rather than held without limit or waited for. */
const maxBufferedBytes = 4 * 1024 * 1024
const flushMs = 500

/** JSON lines on stdout; what is logged is chosen field by field, so there is nothing to redact. */
export function createLogger(level: LogLevel, to: DestinationStream = standardOutput()): Logger {
  const options: LoggerOptions = {
    level,
    base: null,
    messageKey: 'message',
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
  }
  return pino(options, to)
}

function standardOutput(): DestinationStream {
  const to = destination({ fd: 1, sync: false, maxLength: maxBufferedBytes })
  // A full disk must cost lines, not streams. It is told where it can be told, once.
  to.once('error', (error: NodeJS.ErrnoException) => {
    to.on('error', () => {})
    process.stderr.write(`sluice: log lines are being lost: ${error.code ?? error.name}\n`)
  })
  // pino calls it at exit and with `fatal`; it blocks the process for as long as nobody takes the lines.
  to.flushSync = () => {}
  return to
}

/** Gives the last lines, of which there is at least one, a moment to be taken before the process ends. */
export async function flushLogs(logger: Logger): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const timer = setTimeout(resolve, flushMs)
  // `logger.flush` calls back at once when lines are written as they come, however many are still on their way.
  const { [pino.symbols.streamSym]: to } = logger as unknown as { [pino.symbols.streamSym]: EventEmitter }
  to.once('drain', resolve)
  await promise
  clearTimeout(timer)
}

/** The one line of a stream, written at its end: all one needs to answer «what happened to stream X?». */
export function logRun(logger: Logger, report: RunReport): void {
  const { terminal, failure, timing } = report
  const fields = {
    stream: report.stream,
    request_id: report.requestId,
    model: report.model,
    status: terminal.type,
    ...(terminal.type === 'done' && { stop_reason: terminal.stop_reason, cost_usd: terminal.cost_usd }),
    ...(terminal.type === 'cancelled' && { by: terminal.by }),
    ...(terminal.type === 'error' && { code: terminal.error.code, partial: terminal.partial }),
    ...(failure?.reason !== undefined && { reason: failure.reason }),
    ...(failure?.code === 'internal' && { fault: describeFault(failure.cause) }),
    attempts: report.attempts,
    input_tokens: terminal.usage.input_tokens,
    output_tokens: terminal.usage.output_tokens,
    measured: terminal.usage.measured ?? true,
    ...timing,
    upstream_bytes: report.upstreamBytes,
    upstream_request_id: failure?.upstreamRequestId ?? report.upstreamRequestId,
  }
  const ours = failure && (failure.code === 'internal' || failure.code === 'upstream_auth')
  logger[ours ? 'error' : 'info'](fields, 'stream ended')
}
