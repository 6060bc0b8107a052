import { Backoff } from '../../client/backoff.ts'
import { refusalOf } from '../../client/errors.ts'
import { SluiceClientError } from '../../client/stream.ts'

/** As `POST /streams/:id/tools/:call` takes it. */
export type Decision =
  | { readonly decision: 'approve'; readonly input?: object }
  | { readonly decision: 'deny'; readonly reason?: string }

/** How long the server may take to hear of it, in milliseconds. */
const answerMs = 10_000

/**
 * Tells the server, also one that is about to come back.
 * @param until aborted when the call does not wait any more: then nobody has to know
 * @throws SluiceClientError when it cannot be told, or does not take it
 */
export async function tellDecision(
  url: string,
  headers: Record<string, string>,
  decision: Decision,
  until: AbortSignal,
): Promise<void> {
  const backoff = new Backoff({ attempts: 5 })
  until.addEventListener('abort', () => backoff.wake(), { once: true })
  while (!until.aborted) {
    const failure = await send(url, headers, decision, until)
    // What has been decided already, the stream tells.
    if (until.aborted || !failure || failure.code === 'tool_call_decided') return
    const delayMs = failure.retryable ? backoff.next(false, failure.retryAfterMs) : undefined
    if (delayMs === undefined) throw failure
    await backoff.sleep(delayMs)
  }
}

async function send(url: string, headers: Record<string, string>, decision: Decision, until: AbortSignal) {
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json' },
      body: JSON.stringify(decision),
      signal: AbortSignal.any([until, AbortSignal.timeout(answerMs)]),
    })
    return response.ok ? undefined : await refusalOf(response, true)
  } catch (cause) {
    const message = 'The server could not be told of the decision.'
    return new SluiceClientError('connection_lost', message, { partial: true, retryable: true, cause })
  }
}
