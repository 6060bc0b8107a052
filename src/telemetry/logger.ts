import { type DestinationStream, destination, type Logger, type LoggerOptions, pino } from 'pino'
import { describeFault } from '../core/errors.ts'
import type { RunReport } from '../core/report.ts'

export const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const
export type LogLevel = (typeof logLevels)[number]

/** When nobody takes stdout, lines are dropped rather than held without limit or waited for. */
const maxBufferedBytes = 4 * 1024 * 1024

/** JSON lines on stdout; what is logged is chosen field by field, so there is nothing to redact. */
export function createLogger(
  level: LogLevel,
  to: DestinationStream = destination({ fd: 1, sync: false, maxLength: maxBufferedBytes }),
): Logger {
  const options: LoggerOptions = {
    level,
    base: null,
    messageKey: 'message',
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
  }
  return pino(options, to)
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
