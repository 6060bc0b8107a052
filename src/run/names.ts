import { createHash } from 'node:crypto'
import type { MessageRequest } from '../core/request.ts'

/** Clients choose keys and aliases, and two principals may choose the same. No principal holds a blank: none can clash. */
export function nameOf<T extends string | undefined>(principal: string, name: T): T {
  return (name === undefined || principal === '' ? name : `${principal} ${name}`) as T
}

/** Tells one request from another without keeping it. */
export function fingerprintOf(request: MessageRequest): string {
  return createHash('sha256').update(JSON.stringify(request)).digest('base64url')
}
