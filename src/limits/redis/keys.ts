import { hash } from 'node:crypto'

/** The names of accounts in Redis. Principals are hashed: who sees the names need not know who they are. */
export function limitKeys(prefix: string) {
  const base = `${prefix}:1:limit`
  return {
    /** A hash and a sorted set. */
    account: (name: string): [string, string] => {
      const account = `${base}:{${hash('sha256', name, 'base64url')}}`
      return [account, `${account}:live`]
    },
    stream: (id: string) => `${base}:stream:${id}`,
  } as const
}

export type LimitKeys = ReturnType<typeof limitKeys>
