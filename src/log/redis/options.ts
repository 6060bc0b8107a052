import type { OrphanLog } from '../../core/ports.ts'
import type { LinkLog } from '../../redis/link.ts'
import type { MemoryOptions } from '../memory.ts'
import type { LogLink } from './scripts.ts'

export interface RedisStoreOptions extends MemoryOptions {
  /** The store closes it when it is closed. */
  readonly link: LogLink & { close(): void }
  /** Of all names in Redis: replicas with the same prefix share their streams. */
  readonly prefix: string
  readonly durability: 'durable' | 'fast'
  /** The longest that a stream can last, in milliseconds. */
  readonly maxLifeMs: number
  readonly log: LinkLog
  /** This process is there for longer: streams of a dead replica may become its own. */
  mayTakeOver(): boolean
  /**
   * Given the log of a run whose replica died, to go on with or to be brought to an end.
   * @param plan as the run gave it; `undefined` when it did not, or it was too large to be kept
   */
  adopt(log: OrphanLog, plan: string | undefined): void
}
