import { createHmac } from 'node:crypto'

/**
 * What proves to a webhook that a call comes from this Sluice, and when it was made: the HMAC-SHA-256 of the timestamp,
 * a dot and the body, in hexadecimal digits.
 * @param timestamp seconds since 1970, as in the header `Sluice-Timestamp`
 */
export function signatureOf(secret: string, timestamp: string, body: string): string {
  return `v1=${createHmac('sha256', secret).update(`${timestamp}.${body}`).digest('hex')}`
}
