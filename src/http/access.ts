import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Guesses } from '../access/guesses.ts'
import { anybody, type Caller, type Keyring } from '../access/keyring.ts'
import { SluiceError } from '../core/errors.ts'

declare module 'fastify' {
  interface FastifyRequest {
    caller: Caller
  }
  interface FastifyContextConfig {
    /** Asks nobody for a key. */
    open?: boolean
  }
}

export interface Access {
  readonly keyring: Keyring
  readonly guesses: Guesses
}

/**
 * Says of every request who sends it, before anything else is made of it, and refuses those without a valid key where
 * keys are asked for: on every route that does not say otherwise, and where there is none. To be called before the
 * routes are there.
 */
export function identifyCallers(app: FastifyInstance, access: Access | undefined): void {
  app.decorateRequest('caller')
  app.addHook('onRequest', (request, _reply, done) => {
    const isOpen = access === undefined || request.routeOptions.config?.open === true
    try {
      request.caller = isOpen ? anybody : callerOf(request, access)
      done()
    } catch (refusal) {
      done(refusal as SluiceError)
    }
  })
}

/**
 * A valid key is taken however many wrong ones have come from its address: many may share it, behind a proxy all do, and
 * one of them could lock the others out. What is random cannot be guessed anyway; it is the noise that is bounded.
 * @throws SluiceError `unauthorized`, `too_many_wrong_keys`
 */
function callerOf(request: FastifyRequest, { keyring, guesses }: Access): Caller {
  const keys = keysOf(request)
  for (const key of keys) {
    const caller = keyring.find(key)
    if (caller) return caller
  }
  if (keys.length === 0) throw new SluiceError('unauthorized')
  const retryAfterMs = guesses.add(request.ip)
  throw new SluiceError(retryAfterMs === undefined ? 'unauthorized' : 'too_many_wrong_keys', { retryAfterMs })
}

/** From where the SDKs of OpenAI and of Anthropic put theirs. A proxy may have put its own in one of the two. */
function keysOf({ headers }: FastifyRequest): string[] {
  const [, bearer] = /^bearer +(\S+) *$/i.exec(headers.authorization ?? '') ?? []
  return [bearer, headers['x-api-key']].filter((key) => typeof key === 'string' && key !== '') as string[]
}
