import { createHash, timingSafeEqual } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import type { Guesses } from '../access/guesses.ts'
import { isLoopbackAddress } from '../core/address.ts'
import { SluiceError } from '../core/errors.ts'
import { bearerTokenOf } from './headers.ts'
import { hostOf } from './origin.ts'

/** What a proxy adds: whoever it speaks for is not on this machine. */
const forwarding = ['forwarded', 'via', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'x-real-ip']

/** Who may see how the server is doing: not its clients, whose keys are worth nothing here. */
export class Operators {
  readonly #hash: Buffer | undefined
  readonly #guesses: Guesses

  /** @param token without one, only this machine is let in */
  constructor(token: string | undefined, guesses: Guesses) {
    this.#hash = token === undefined ? undefined : hashOf(token)
    this.#guesses = guesses
  }

  /**
   * With a token, whoever sends it. Without one, programs on this machine that speak for themselves: by the socket's
   * address, as headers can say anything; and not under another name, which a page that rebinds DNS would come with.
   * @throws SluiceError `operators_only` or, as if there were nothing, `route_not_found`
   */
  admit(request: FastifyRequest): void {
    if (this.#hash) this.#checkToken(request, this.#hash)
    else admitThisMachine(request)
  }

  #checkToken(request: FastifyRequest, hash: Buffer): void {
    const token = bearerTokenOf(request)
    if (token !== undefined && timingSafeEqual(hashOf(token), hash)) return
    const retryAfterMs = token === undefined ? undefined : this.#guesses.add(request.ip)
    throw new SluiceError(retryAfterMs === undefined ? 'operators_only' : 'too_many_wrong_keys', { retryAfterMs })
  }
}

function admitThisMachine({ raw }: FastifyRequest): void {
  const { headers, socket } = raw
  const isNear = isOwnAddress(socket.remoteAddress) && isOwnName(hostOf(raw))
  if (!isNear || forwarding.some((name) => headers[name] !== undefined)) throw new SluiceError('route_not_found')
}

function hashOf(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}

function isOwnAddress(address = ''): boolean {
  return isLoopbackAddress(address.replace(/^::ffff:/, ''))
}

function isOwnName(host: string): boolean {
  const name = host.replace(/:\d+$/, '')
  return name === 'localhost' || name === '[::1]' || isOwnAddress(name)
}
