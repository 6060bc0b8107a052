import type { Caller } from '../core/caller.ts'

/** Tells callers by what they bring, and whether that is still good. */
export interface Authenticator {
  /** How a credential that nobody has is told to whoever sent it. */
  readonly refusal: 'unauthorized' | 'token_invalid'
  /**
   * @returns nobody for a credential that is not valid
   * @throws SluiceError `token_expired`; `access_unavailable` when nobody can tell
   */
  find(credential: string): Caller | undefined | Promise<Caller | undefined>
  /** What he came with is still valid, as far as that can change. */
  accepts(caller: Pick<Caller, 'principal' | 'key'>): boolean
  /** There may be somebody of that name. */
  knows(principal: string): boolean
}
